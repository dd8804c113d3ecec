"""COPY of frames into tables in PostgreSQL's binary format, by far the fastest way to get many rows in.

pgpq writes the format in a fraction of the time that ADBC takes to, and psycopg sends it.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import Connection, sql

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.tables import ColumnType

__all__ = ["CopyTypeError", "copy_arrow", "copy_frame"]

# Rows that are encoded and sent at a time: so few that what they become stays in the processor's cache.
_ROWS = 4096
_OF_TABLE: Mapping[str, pl.DataType] = {
    "smallint": pl.Int16(),
    "integer": pl.Int32(),
    "timestamp with time zone": ColumnType.TIMESTAMP.polars,
    **{kind.value: kind.polars for kind in ColumnType if kind is not ColumnType.TIMESTAMP},
}


class CopyTypeError(PrivacyPlatformError):
    """A frame does not have the types of the table that it should be copied into; the message names the columns."""


def copy_frame(connection: Connection, schema: str, table: str, frame: pl.DataFrame) -> None:
    """COPY a frame to the end of `schema.table`, in the connection's transaction.

    Args:
        connection: of a role that may insert there.
        schema: the table's schema.
        table: the table.
        frame: columns by their names, in any order, in the types of the table; a column it lacks gets its default.

    Raises:
        CopyTypeError: the types differ. PostgreSQL would take the bytes of one type for those of another.
        ValueError: a time is out of PostgreSQL's range.
        psycopg.Error: a row does not fit; the message can hold values of it.
    """
    _same_types(connection, schema, table, frame)
    copy_arrow(connection, schema, table, pa.table({column.name: _arrow(column) for column in frame}))


def copy_arrow(connection: Connection, schema: str, table: str, rows: pa.Table) -> None:
    """The same of an Arrow table, whose types nobody compares."""
    encoder = ArrowToPostgresBinaryEncoder(rows.schema)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(schema, table), sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(encoder.write_header())
        for batch in rows.to_batches(max_chunksize=_ROWS):
            copy.write(encoder.write_batch(batch))
        copy.write(encoder.finish())


def _same_types(connection: Connection, schema: str, table: str, frame: pl.DataFrame) -> None:
    found = connection.execute(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
        "WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped",
        [schema, table],
    ).fetchall()
    types = {name: _OF_TABLE.get(kind) for name, kind in found}
    others = [name for name, kind in frame.schema.items() if found and kind != types.get(name)]
    if others:
        raise CopyTypeError(f"{schema}.{table} has no such column, or of another type: {', '.join(others)}")


def _arrow(column: pl.Series) -> "pa.Array[Any]":
    # Texts as they lie in the frame, without a copy; for bytes, pgpq does not know that form.
    as_it_is = column.dtype != pl.Binary
    return column.to_arrow(compat_level=pl.CompatLevel.newest() if as_it_is else pl.CompatLevel.oldest())
