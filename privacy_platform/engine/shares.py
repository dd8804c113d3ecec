"""Aggregating zone tables by shares of the people: each share is computed in a task, and the results added up.

A task reads all blocks and keeps the rows of its share. Where there are many shares the table is read once instead, and
its rows are dealt out into files, one for each share, that the tasks find on their machine's disk; a file that is not
there (see `engine.spill`) is made up for by reading its blocks again. Rows never go through the JVM, and nothing of one
leaves the tasks: what does is groups, which are few.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import polars as pl
from psycopg import Connection
from pyspark.sql import SparkSession

from privacy_platform.engine.release_anonymized import UpstreamMissingError
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.sources.zone import (
    SHARE,
    Columns,
    ZoneSplit,
    read_columns,
    read_query,
    relation_splits,
    share_splits,
)
from privacy_platform.engine.spill import Spill, remove, spilled
from privacy_platform.engine.stage import frame_stage
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.tables import Partition, Table
from privacy_platform.warehouse.tables import partition_name, table_columns

__all__ = ["Read", "Shares", "require_upstream"]

Read = Mapping[Table, Sequence[Partition]]
"""The tables an aggregate is made from, its source first, with the partitions to read."""
Compute = Callable[[AggregatePolicy, pl.DataFrame, pl.DataFrame | None], pl.DataFrame]
"""What becomes of the rows of a share: the policy, the source's rows, the joined table's."""
# To read the table so many times by each processor costs less than to write its columns down once.
_READ_AGAIN = 2
_FILES = {"share": pl.Int64(), "path": pl.String()}


def require_upstream(connection: Connection, table: Table, sources: Sequence[Table]) -> None:
    """See that every table an aggregate is made from stands.

    Raises:
        UpstreamMissingError: one was never materialized.
    """
    for source in sources:
        if not table_columns(connection, source.zone, source.name):
            raise UpstreamMissingError(f"{table.name} is made from {source.name}: materialize {source.name} first.")


class Shares:
    """The shares of the people whose rows an aggregate is made from."""

    def __init__(
        self,
        connection: Connection,
        policy: AggregatePolicy,
        read: Read,
        *,
        seen: str,
        hashed: frozenset[str] = frozenset(),
        present: Sequence[str] = (),
    ) -> None:
        """Plan the shares.

        Args:
            connection: as the pipeline role.
            policy: the aggregate.
            read: what it is made from.
            seen: the snapshot to read: what streams in meanwhile must be in all that is read, or in nothing of it.
            hashed: columns, texts, of which a hash is enough, see `Columns`; it is another one each time.
            present: columns of the source without which a row is not read.
        """
        (source, chosen), *others = read.items()
        names = [partition_name(source, partition) for partition in chosen]
        self.splits = share_splits(connection, source.zone, names, policy.unit, parallelism=parallelism())
        self.pieces = relation_splits(connection, source.zone, names, parallelism=parallelism())
        joined, seed = others[0][0] if policy.join else None, secrets.randbits(63)
        self.rows = ShareRows(policy, source, joined, seen, hashed, tuple(present), seed)

    def computed(self, spark: SparkSession, compute: Compute) -> list[pl.DataFrame]:
        """What `compute`, a function that can be pickled, makes of each share; of no rows where there is no share."""
        task = _Task(self.rows, compute)
        whole = [_Share(split) for split in self.splits]
        if len(whole) > _READ_AGAIN * parallelism():
            whole = self._dealt(spark)
        return frame_stage(spark, whole, task) or [task.of_nobody()]

    def _dealt(self, spark: SparkSession) -> "list[_Share]":
        """The shares with the files that their rows lie in, in the order of the blocks these were read from."""
        pieces = self.pieces
        files = frame_stage(spark, pieces, _Deal(self.rows, len(self.splits)))
        found = [dict(frame.iter_rows()) for frame in files]
        return [
            _Share(
                split,
                tuple(
                    (replace(split, blocks=p.blocks), f.get(split.share)) for p, f in zip(pieces, found, strict=True)
                ),
            )
            for split in self.splits
        ]


@dataclass(frozen=True)
class _Share:
    """A share, and, if its rows were dealt out, the file of each piece of the table, None where it has no row of it."""

    split: ZoneSplit
    files: tuple[tuple[ZoneSplit, str | None], ...] | None = None


@dataclass(frozen=True)
class ShareRows:
    """Reads the rows of a share, in a worker."""

    policy: AggregatePolicy
    source: Table
    joined: Table | None
    seen: str
    hashed: frozenset[str] = frozenset()
    present: tuple[str, ...] = ()
    seed: int = 0

    def read(self, split: ZoneSplit) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The source's rows and the joined table's."""
        return self.beside(self.frames(split), split)

    def frames(self, split: ZoneSplit) -> Iterator[pl.DataFrame]:
        """The source's rows of a share, or of a piece of it, in the types of the table."""
        return self._read(self.source, split)

    def beside(self, frames: Iterable[pl.DataFrame], split: ZoneSplit) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The given rows of the source, and those of the joined table that they may need."""
        rows = reduce(lambda a, b: a.vstack(b), frames, self.empty(self.source))
        join = self.policy.join
        if self.joined is None or join is None:
            return rows, None
        # Joined by something else than the person, a row may need any of the other table's.
        token = join.by if join.by == self.policy.unit else None
        other = self._read(self.joined, split.of_table(self.joined.zone, self.joined.name, token))
        return rows, reduce(lambda a, b: a.vstack(b), other, self.empty(self.joined))

    def nobody(self) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The same without any row."""
        return self.empty(self.source), self.empty(self.joined) if self.joined else None

    def empty(self, table: Table) -> pl.DataFrame:
        """No rows of the columns of a table that are needed."""
        columns = self.columns(table)
        return pl.DataFrame(
            schema={
                name: pl.Int64() if name in columns.hashed else table.column(name).type.polars for name in columns.names
            }
        )

    def columns(self, table: Table) -> Columns:
        """What is read of a table."""
        names = tuple(used_columns(self.policy, table))
        return Columns(names, self.hashed, self.present if table == self.source else (), self.seed)

    def _read(self, table: Table, split: ZoneSplit) -> Iterator[pl.DataFrame]:
        empty = self.empty(table)
        for batch in read_columns(split, self.columns(table), seen=self.seen):
            yield pl.DataFrame(pl.from_arrow(batch)).cast(empty.schema)


@dataclass(frozen=True)
class _Deal:
    """Reads a piece of the table and deals its rows out into files by share; returns which file is whose."""

    rows: ShareRows
    shares: int

    def __call__(self, piece: ZoneSplit) -> pl.DataFrame:
        empty = self.rows.empty(self.rows.source)
        query = piece.dealt(self.rows.columns(self.rows.source), self.rows.policy.unit, self.shares)
        files: dict[int, Spill] = {}
        with ExitStack() as open_files:
            for batch in read_query(query, seen=self.rows.seen):
                frame = pl.DataFrame(pl.from_arrow(batch))
                for (share,), rows in frame.partition_by(SHARE, as_dict=True, include_key=False).items():
                    if share not in files:
                        files[share] = open_files.enter_context(Spill())
                    files[share].add(rows.cast(empty.schema))
        paths = {share: str(spill.path) for share, spill in files.items()}
        return pl.DataFrame({"share": list(paths), "path": list(paths.values())}, schema=_FILES)


@dataclass(frozen=True)
class _Task:
    """Computes a share, and removes the files that its rows lay in."""

    rows: ShareRows
    compute: Compute

    def __call__(self, share: _Share) -> pl.DataFrame:
        if share.files is None:
            return self.compute(self.rows.policy, *self.rows.read(share.split))
        found = self.compute(self.rows.policy, *self.rows.beside(self._dealt(share.files), share.split))
        for _, path in share.files:
            if path is not None:
                remove(Path(path))
        return found

    def _dealt(self, files: Sequence[tuple[ZoneSplit, str | None]]) -> Iterator[pl.DataFrame]:
        for piece, path in files:
            if path is not None:
                yield from spilled(Path(path)) or self.rows.frames(piece)

    def of_nobody(self) -> pl.DataFrame:
        return self.compute(self.rows.policy, *self.rows.nobody())


def used_columns(policy: AggregatePolicy, source: Table) -> list[str]:
    """The columns of a source that the aggregate needs: no others are read."""
    if policy.join and source.name == policy.join.table and source.name != policy.source:
        return [policy.join.by, *policy.join.columns]
    names = {policy.unit, *(d.column for d in policy.dimensions.values())}
    names |= {name for span in policy.derive.values() for name in (span.span, span.by)}
    names |= {policy.join.by} if policy.join else set()
    for measure in policy.measures.values():
        names |= {n for n in (measure.column, measure.times, measure.once_per) if n} | set(measure.where)
    return [column.name for column in source.columns if column.name in names]
