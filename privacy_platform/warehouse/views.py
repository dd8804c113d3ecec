"""Views over the packaged zone tables: `sql/views/NAME.sql`, each made as soon as the tables it requires exist.

A policy of the user's own may lack a column that a view shows; that view is then left out.
"""

import re

import psycopg
from psycopg import Connection

from privacy_platform.warehouse.migrations import sql_directory
from privacy_platform.warehouse.tables import table_columns

_REQUIRES = re.compile(r"^-- requires: (.+)$", re.MULTILINE)
_CREATES = re.compile(r"^CREATE VIEW (\w+)\.(\w+) WITH \(security_barrier\) AS", re.MULTILINE)


def ensure_views(connection: Connection) -> list[str]:
    """Create the views that are missing and can be made, in the caller's transaction; returns their names."""
    made = []
    for path in sorted((sql_directory() / "views").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        required, created = _REQUIRES.search(text), _CREATES.search(text)
        if required is None or created is None:
            continue
        tables = [name.strip().split(".") for name in required.group(1).split(",")]
        if table_columns(connection, *created.groups()) or not all(table_columns(connection, *t) for t in tables):
            continue
        try:
            with connection.transaction():
                connection.execute(text.encode())
        except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction):
            continue
        made.append(path.stem)
    return made
