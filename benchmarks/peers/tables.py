"""Plain target tables with the columns of `anonymized_users`, for the competitors to fill.

No index, no key, no partition: the least work PostgreSQL can have with them.
"""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from psycopg import sql

from privacy_platform.policy.tables import Table
from privacy_platform.warehouse.connection import Role, adbc, connect
from privacy_platform.warehouse.copying import copy_arrow
from privacy_platform.warehouse.release import STAGING
from privacy_platform.warehouse.tables import columns_sql


def create(table: Table, name: str) -> None:
    """Make `staging.<name>` anew, empty."""
    target = sql.Identifier(STAGING, name)
    with connect(Role.PIPELINE, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(target))
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(target, columns_sql(table)))


def drop(name: str) -> None:
    """Remove `staging.<name>`, if it is there."""
    with connect(Role.PIPELINE, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(STAGING, name)))


def copy(name: str, data: Any) -> None:
    """COPY Arrow data (a table, or a reader that is drawn batch by batch) into `staging.<name>` by ADBC, for peers."""
    connection = adbc(Role.PIPELINE)
    try:
        with connection.cursor() as cursor:
            cursor.adbc_ingest(name, data, mode="append", db_schema_name=STAGING)
        connection.commit()
    finally:
        connection.close()


def copy_bare(name: str, batches: Iterable[Any]) -> None:
    """COPY Arrow batches into `staging.<name>` by one connection in the fastest way known: the floor."""
    with connect(Role.PIPELINE, wait_for_disk=False) as connection:
        for batch in batches:
            copy_arrow(connection, STAGING, name, pa.Table.from_batches([batch]))


def fetch(name: str) -> Any:
    """The whole of `staging.<name>` as an Arrow table."""
    connection = adbc(Role.PIPELINE)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT * FROM {STAGING}."{name}"')
            return cursor.fetch_arrow_table()
    finally:
        connection.close()


def count(name: str) -> int:
    """Rows of `staging.<name>`."""
    with connect(Role.PIPELINE) as connection:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(STAGING, name))).fetchone()
    return int(row[0]) if row else 0


def differences(ours: str, theirs: str, columns: list[str]) -> int:
    """How many rows of `ours` are not in `theirs`, looking at some columns and counting repeats."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = sql.SQL("SELECT count(*) FROM (SELECT {n} FROM {a} EXCEPT ALL SELECT {n} FROM {b}) d").format(
        n=names, a=sql.Identifier(STAGING, ours), b=sql.Identifier(STAGING, theirs)
    )
    with connect(Role.PIPELINE) as connection:
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0
