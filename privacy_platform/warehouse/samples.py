"""Tables of PostgreSQL as samples for the detector: one table, or all of a database.

Contract: a table is streamed once through a server-side cursor, read only, in memory that does not grow with it. Only
names that the catalog knows are put into a query.
"""

from collections.abc import Callable, Iterator

import polars as pl
import psycopg
from psycopg import sql

from privacy_platform.detection.detector import Table
from privacy_platform.detection.sampling import Sampler
from privacy_platform.warehouse.connection import WarehouseConnectionError

__all__ = ["database_tables", "sample_table"]

_BATCH = 20_000


def database_tables(connection: psycopg.Connection, wanted: str | None = None) -> list[tuple[str, str]]:
    """Schema and name of the tables and views that may be read, but PostgreSQL's own.

    Args:
        connection: The database.
        wanted: ``table`` or ``schema.table``; all if not given.

    Raises:
        WarehouseConnectionError: there is no such table.
    """
    rows = connection.execute(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN "
        "('pg_catalog', 'information_schema') AND table_schema NOT LIKE 'pg\\_%' "
        "AND has_table_privilege(format('%I.%I', table_schema, table_name), 'SELECT') ORDER BY 1, 2"
    ).fetchall()
    tables = [(str(schema), str(name)) for schema, name in rows]
    if wanted is None:
        return tables
    found = [t for t in tables if wanted in (t[1], f"{t[0]}.{t[1]}")]
    if not found:
        raise WarehouseConnectionError(f"There is no file and no table `{wanted}` that may be read; check the name.")
    return found


def sample_table(
    connection: psycopg.Connection, schema: str, name: str, progress: Callable[[str, int, int], None] | None = None
) -> Table:
    """Sample a table; a column is cast to text by PostgreSQL."""
    columns = [
        str(column)
        for (column,) in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
            "AND data_type <> 'bytea' ORDER BY ordinal_position",
            [schema, name],
        )
    ]
    sampler = Sampler(name)
    if not columns:
        return sampler.table()
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns),
        sql.Identifier(schema, name),
    )
    estimated = connection.execute(
        "SELECT greatest(reltuples, 0)::bigint FROM pg_class "
        "WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text))",
        [schema, name],
    ).fetchone()
    total = max(1, int(estimated[0]) if estimated else 1)
    sampler.add({column: pl.Series(column, [], dtype=pl.String) for column in columns}, 0)
    for batch in _batches(connection, query):
        cells = zip(*batch, strict=True)
        sampler.add({c: pl.Series(c, v, dtype=pl.String) for c, v in zip(columns, cells, strict=True)}, len(batch))
        if progress:
            progress(f"{schema}.{name}", min(sampler.rows, total), total)
    return sampler.table()


def _batches(connection: psycopg.Connection, query: sql.Composed) -> Iterator[list[tuple[str | None, ...]]]:
    with connection.transaction(), connection.cursor(name="privacy_platform_scan") as cursor:
        cursor.execute(query)
        while batch := cursor.fetchmany(_BATCH):
            yield batch
