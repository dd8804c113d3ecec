"""Views over the packaged zone tables: `sql/views/NAME.sql`, each made as soon as the tables it requires exist.

A policy of the user's own may lack a column that a view shows; that view is then left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import Connection

from privacy_platform.policy.tables import Table
from privacy_platform.warehouse.migrations import sql_directory
from privacy_platform.warehouse.tables import drop, table_columns

_REQUIRES = re.compile(r"^-- requires: (.+)$", re.MULTILINE)
_CREATES = re.compile(r"^CREATE VIEW (\w+)\.(\w+) WITH \(security_barrier\) AS", re.MULTILINE)


def ensure_views(connection: Connection) -> list[str]:
    """Create the views that are missing and can be made, in the caller's transaction; returns their names."""
    made = []
    for view in _views():
        if table_columns(connection, *view.name) or not all(table_columns(connection, *t) for t in view.requires):
            continue
        try:
            with connection.transaction():
                connection.execute(view.text.encode())
        except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction):
            continue
        made.append(view.name[1])
    return made


def drop_views(connection: Connection, table: Table) -> None:
    """Drop the views over a table that is made anew, in the caller's transaction; `ensure_views` makes them again.

    Raises:
        TableMismatchError: something else depends on one of them.
    """
    for view in _views():
        if (table.zone.value, table.name) in view.requires:
            drop(connection, "VIEW", *view.name)


@dataclass(frozen=True)
class _View:
    """A view as its file says."""

    name: tuple[str, str]
    requires: tuple[tuple[str, str], ...]
    text: str


def _views() -> Iterator[_View]:
    for path in sorted((sql_directory() / "views").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        required, created = _REQUIRES.search(text), _CREATES.search(text)
        if required and created:
            tables = (name.strip().partition(".") for name in required.group(1).split(","))
            yield _View((created[1], created[2]), tuple((zone, name) for zone, _, name in tables), text)
