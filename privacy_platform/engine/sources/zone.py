"""Tables of a zone as a source: ranges of physical blocks, read by ADBC as Arrow batches."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import ceil

import polars as pl
import pyarrow as pa
from psycopg import Connection

from privacy_platform.policy.tables import ColumnType, Partition, Table
from privacy_platform.warehouse.connection import Role, adbc, connect
from privacy_platform.warehouse.frequency import heaviest_share
from privacy_platform.warehouse.tables import partition_name, relation_bytes

_BLOCK = 8192
_NO_END = 2**31 - 1
_SPLIT_BYTES = 2**30
_LEAST_BLOCKS = 1024
# The subjects of a split lie in a task's memory. A row of the vault is about 160 bytes, so these are 600,000 of them.
_SUBJECT_BYTES = 96 * 2**20
# Far less than can be read within the time that a statement may take.
_PASSED_BYTES = 2**34
# A task that deals rows out has a file open for each share.
_MOST_SHARES = 512
SHARE = "__share"
_WORK_MEMORY = "128MB"
# Of what ADBC hands over at once: enough rows that what every kernel costs by itself does not count.
_BATCH_BYTES = 48 * 2**20
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
class Blocks:
    """Blocks [first, end) of a relation."""

    schema: str
    relation: str
    first: int
    end: int

    @property
    def where(self) -> str:
        """The condition on `r.ctid`, which PostgreSQL answers with a TID range scan."""
        return f"r.ctid >= '({self.first},0)'::tid AND r.ctid < '({self.end},0)'::tid"


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read of each row of a relation.

    Attributes:
        names: the columns.
        hashed: texts of which, if they are among the columns, only a number of 64 bits comes: enough to tell whether
            two are equal.
        present: columns without which a row is not read.
        seed: what the hashes begin with; those of another are others.
    """

    names: tuple[str, ...]
    hashed: frozenset[str] = frozenset()
    present: tuple[str, ...] = ()
    seed: int = 0

    @property
    def listed(self) -> str:
        """The list of a SELECT from `r`."""
        return ", ".join(
            f'hashtextextended(r."{name}", {self.seed}) AS "{name}"' if name in self.hashed else f'r."{name}"'
            for name in self.names
        )

    @property
    def where(self) -> str:
        """The condition on a row of `r`."""
        return " AND ".join(f'r."{name}" IS NOT NULL' for name in self.present) or "true"


@dataclass(frozen=True, slots=True)
class ZoneSplit:
    """The rows of some blocks; of the data subjects of one share only, if `token` names the column they are told by."""

    index: int
    blocks: tuple[Blocks, ...]
    token: str | None = None
    share: int = 0
    shares: int = 1

    def rows(self, columns: Columns) -> str:
        """The query of the given columns."""
        condition = self.of_share(f'r."{self.token}"')
        return " UNION ALL ".join(
            f'SELECT {columns.listed} FROM "{piece.schema}"."{piece.relation}" r '
            f"WHERE {piece.where} AND {condition} AND {columns.where}"
            for piece in self.blocks
        )

    def dealt(self, columns: Columns, token: str, shares: int) -> str:
        """The query of the given columns of everybody, and in `SHARE` which of so many shares each row is of."""
        share = _share_of(f'r."{token}"', shares) + f' AS "{SHARE}"'
        return " UNION ALL ".join(
            f'SELECT {columns.listed}, {share} FROM "{piece.schema}"."{piece.relation}" r '
            f"WHERE {piece.where} AND {columns.where}"
            for piece in self.blocks
        )

    def of_table(self, schema: str, name: str, token: str | None) -> "ZoneSplit":
        """The rows of the same people in another table, where `token` tells them; without it, all of that table."""
        everything = Blocks(schema, name, 0, _NO_END)
        if token is None:
            return ZoneSplit(self.index, (everything,))
        return ZoneSplit(self.index, (everything,), token, self.share, self.shares)

    def of_share(self, token: str) -> str:
        """The condition that a token (an SQL expression) is of a subject of the split's share."""
        if self.shares == 1:
            return "true"
        return f"{_share_of(token, self.shares)} = {self.share}"


def _share_of(token: str, shares: int) -> str:
    """Which share a token is of; by a hash and not the token itself: nothing is known of how tokens are written."""
    return f"((hashtext({token}) & 2147483647) % {shares})"


def zone_splits(
    connection: Connection, table: Table, partitions: Sequence[Partition], *, parallelism: int
) -> list[ZoneSplit]:
    """Splits of the given partitions, one a processor or a few: for tasks that pass rows on and keep none."""
    names = [partition_name(table, partition) for partition in partitions]
    return relation_splits(connection, table.zone, names, parallelism=parallelism, most=_PASSED_BYTES)


def relation_splits(
    connection: Connection, schema: str, names: Sequence[str], *, parallelism: int, most: int = _SPLIT_BYTES
) -> list[ZoneSplit]:
    """Splits of the given relations: one a processor, as each hashes the tables it joins, or more of `most` bytes."""
    relations = _relations(connection, schema, names)
    blocks = sum(count for _, count in relations)
    pieces = _even(_pieces(blocks, max(parallelism, -(-blocks * _BLOCK // most))), parallelism)
    return [ZoneSplit(index, ranges) for index, ranges in enumerate(_cut(schema, relations, pieces))]


def subject_splits(
    connection: Connection, schema: str, names: Sequence[str], token: str, *, parallelism: int
) -> list[ZoneSplit]:
    """Splits of the given relations by data subject, for tasks that must know something of each subject.

    A subject is looked up once in a split and not once a record, and there are no more of them in a split than a task
    can keep in memory. Every share reads all blocks, which costs little beside what it does with its own records.

    Args:
        connection: as the pipeline role.
        schema: the relations' schema.
        names: the relations.
        token: their column with the subject's token.
        parallelism: how many tasks run at once.
    """
    relations = _relations(connection, schema, names)
    blocks = sum(count for _, count in relations)
    [(_, vault)] = _relations(connection, "vault", ["subjects"])
    shares = max(1, -(-min(vault, blocks) * _BLOCK // _SUBJECT_BYTES))
    # One subject's records are all in one share, which is cut until they are no more in a task than one's part of all.
    heavy = ceil(heaviest_share(connection, schema, names, [token]) * parallelism)
    pieces = _pieces(blocks, max(-(-parallelism // shares), -(-blocks * _BLOCK // (_SPLIT_BYTES * shares)), heavy))
    cut = _cut(schema, relations, pieces)
    pairs = [(ranges, share) for ranges in cut for share in range(shares)]
    return [ZoneSplit(index, ranges, token, share, shares) for index, (ranges, share) in enumerate(pairs)]


def share_splits(
    connection: Connection, schema: str, names: Sequence[str], token: str, *, parallelism: int, most: int
) -> list[ZoneSplit]:
    """Splits of the given relations by data subject, none divided: all rows of a subject are in one split.

    For tasks that keep a few columns of all their rows in memory: those of `most` bytes of the relations at the most,
    unless there would be too many. Other arguments as in `subject_splits`.
    """
    relations = _relations(connection, schema, names)
    blocks = sum(count for _, count in relations)
    wanted = max(parallelism, min(-(-blocks * _BLOCK // most), _MOST_SHARES))
    shares = _even(_pieces(blocks, wanted), parallelism)
    return [
        ZoneSplit(index, ranges, token, index, shares)
        for ranges in _cut(schema, relations, 1)
        for index in range(shares)
    ]


def _relations(connection: Connection, schema: str, names: Sequence[str]) -> list[tuple[str, int]]:
    """Name and number of blocks of each relation."""
    return [(name, size // _BLOCK) for name, size in zip(names, relation_bytes(connection, schema, names), strict=True)]


def _pieces(blocks: int, wanted: int) -> int:
    """How many pieces to cut blocks into: as many as wanted, but none so small that beginning it costs the most."""
    return max(1, min(wanted, -(-blocks // _LEAST_BLOCKS)))


def _even(pieces: int, parallelism: int) -> int:
    """So many pieces, or a few more, that the last ones do not leave a processor without work."""
    return pieces if pieces <= parallelism else -(-pieces // parallelism) * parallelism


def _cut(schema: str, relations: Sequence[tuple[str, int]], pieces: int) -> list[tuple[Blocks, ...]]:
    """The blocks of all relations, one after the other, in pieces of equal size; none where there is no block."""
    total = sum(blocks for _, blocks in relations)
    cut = []
    for piece in range(pieces):
        first, end = total * piece // pieces, total * (piece + 1) // pieces
        ranges, begin = [], 0
        for name, blocks in relations:
            low, high = max(first - begin, 0), min(end - begin, blocks)
            if low < high:
                # The last range is open: a table cannot grow under a reader of a released partition, but be safe.
                ranges.append(Blocks(schema, name, low, high if high < blocks else _NO_END))
            begin += blocks
        if ranges:
            cut.append(tuple(ranges))
    return cut


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
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
        cursor.execute(query)
        yield from cursor.fetch_record_batch()


def read_frames(query: str) -> Iterator[pl.DataFrame]:
    """`read_query` in frames."""
    for batch in read_query(query):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a record batch gives a frame
        yield frame


def read_columns(split: ZoneSplit, columns: Columns, *, seen: str | None = None) -> Iterator[pa.RecordBatch]:
    """The given columns of a split; `seen` as in `read_query`."""
    return read_query(split.rows(columns), seen=seen)
