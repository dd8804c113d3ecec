"""A table of a zone as a source: ranges of physical blocks, read by ADBC as Arrow batches."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pyarrow as pa
from psycopg import Connection

from privacy_platform.policy.tables import ColumnType, Partition, Table
from privacy_platform.warehouse.connection import Role, adbc, connect
from privacy_platform.warehouse.tables import partition_name

_BLOCK = 8192
_SPLIT_BYTES = 2**30
_WORK_MEMORY = "128MB"
SPARK_TYPES = {
    ColumnType.TEXT: "string",
    ColumnType.BIGINT: "long",
    ColumnType.DOUBLE: "double",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.TIMESTAMP: "timestamp",
    ColumnType.DATE: "date",
    ColumnType.BYTES: "binary",
}


@dataclass(frozen=True, slots=True)
class ZoneSplit:
    """Blocks [first, end) of a partition's table."""

    index: int
    schema: str
    relation: str
    first: int
    end: int

    @property
    def where(self) -> str:
        """The condition on `r.ctid`, which PostgreSQL answers with a TID range scan."""
        return f"r.ctid >= '({self.first},0)'::tid AND r.ctid < '({self.end},0)'::tid"


def zone_splits(
    connection: Connection, table: Table, partitions: Sequence[Partition], *, parallelism: int
) -> list[ZoneSplit]:
    """Splits of the given partitions, see `relation_splits`."""
    return relation_splits(
        connection, table.zone, [partition_name(table, partition) for partition in partitions], parallelism=parallelism
    )


def relation_splits(connection: Connection, schema: str, names: Sequence[str], *, parallelism: int) -> list[ZoneSplit]:
    """Splits of the given relations: one task a processor, as each hashes the tables it joins; more when large."""
    relations = []
    for name in names:
        row = connection.execute("SELECT pg_relation_size(to_regclass(%s))", [f'"{schema}"."{name}"']).fetchone()
        relations.append((name, (row[0] if row and row[0] else 0) // _BLOCK))
    blocks = sum(count for _, count in relations)
    size = max(1024, min(_SPLIT_BYTES // _BLOCK, -(-blocks // parallelism)))
    splits: list[ZoneSplit] = []
    for name, count in relations:
        pieces = max(1, round(count / size)) if count else 0
        for piece in range(pieces):
            first, end = count * piece // pieces, count * (piece + 1) // pieces
            # The last range is open: a table cannot grow under a reader of a released partition, but be safe.
            splits.append(ZoneSplit(len(splits), schema, name, first, end if piece + 1 < pieces else 2**31 - 1))
    return splits


@contextmanager
def snapshot() -> Iterator[str]:
    """What stands now, whatever is added meanwhile: a name that `read_query` takes, good within the block."""
    with closing(connect(Role.PIPELINE)) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # It stays open for as long as the tasks read.
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        yield str(row[0]) if row else ""


def enter_snapshot(connection: Connection, seen: str) -> None:
    """See in the next transaction of `connection` what the snapshot sees, until it ends."""
    connection.commit()
    for statement in _entering(seen):
        connection.execute(statement.encode())


def _entering(seen: str) -> tuple[str, str]:
    return "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", f"SET TRANSACTION SNAPSHOT '{seen}'"


def read_query(query: str, *, seen: str | None = None) -> Iterator[pa.RecordBatch]:
    """The batches of a query as the pipeline role; `seen` is the snapshot to read."""
    with adbc(Role.PIPELINE) as connection, connection.cursor() as cursor:
        for statement in _entering(seen) if seen is not None else ():
            cursor.execute(statement)
        # The vault of a million subjects is hashed in memory for a join; spilled, the raw rows would be written again.
        cursor.execute(f"SET work_mem = '{_WORK_MEMORY}'")
        cursor.execute(query)
        yield from cursor.fetch_record_batch()


def read_columns(split: ZoneSplit, columns: Sequence[str], *, seen: str | None = None) -> Iterator[pa.RecordBatch]:
    """The given columns of a split; `seen` as in `read_query`."""
    names = ", ".join(f'r."{name}"' for name in columns)
    return read_query(f'SELECT {names} FROM "{split.schema}"."{split.relation}" r WHERE {split.where}', seen=seen)
