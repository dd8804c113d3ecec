"""Aggregating zone tables by shares of the people: each share is computed in a task, and the results added up.

A task reads all blocks and keeps the rows of its share. Where there are more shares than processors, every table is
read once instead, and its rows are dealt out into files, one for each share, that the tasks find on their machine's
disk; a file that is not there (see `engine.spill`) is made up for by reading its blocks again. Rows never go through
the JVM, and nothing of one leaves the tasks: what does is groups, which are few.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
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
    share_splits,
    zone_splits,
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
        joined, seed = others[0][0] if policy.join else None, secrets.randbits(63)
        self.rows = ShareRows(policy, source, joined, seen, hashed, tuple(present), seed)
        self.pieces = {
            table: zone_splits(connection, table, partitions, parallelism=parallelism())
            for table, partitions in read.items()
            if self.rows.token(table)
        }

    def computed(self, spark: SparkSession, compute: Compute) -> list[pl.DataFrame]:
        """What `compute`, a function that can be pickled, makes of each share; of no rows where there is no share."""
        task = _Task(self.rows, compute)
        whole = [_Share(split) for split in self.splits]
        if len(whole) > parallelism():
            whole = self._dealt(spark)
        return frame_stage(spark, whole, task) or [task.of_nobody()]

    def _dealt(self, spark: SparkSession) -> "list[_Share]":
        """The shares with the files that their rows lie in, in the order of the blocks these were read from."""
        dealt: list[dict[Table, _Files]] = [{} for _ in self.splits]
        for table, pieces in self.pieces.items():
            files = frame_stage(spark, pieces, _Deal(self.rows, table, len(self.splits)))
            found = [dict(frame.iter_rows()) for frame in files]
            for split, of_share in zip(self.splits, dealt, strict=True):
                of_share[table] = tuple(
                    (replace(split, blocks=p.blocks), f.get(split.share)) for p, f in zip(pieces, found, strict=True)
                )
        return [_Share(split, files) for split, files in zip(self.splits, dealt, strict=True)]


_Files = tuple[tuple[ZoneSplit, str | None], ...]
"""Pieces of a table, each with the file of the rows of one share in it, None where there is none."""


@dataclass(frozen=True)
class _Share:
    """A share, and, if rows were dealt out, the files of the tables they were dealt out of."""

    split: ZoneSplit
    files: Mapping[Table, _Files] = field(default_factory=dict)


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

    def read(
        self, split: ZoneSplit, dealt: Mapping[Table, Iterable[pl.DataFrame]] | None = None
    ) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The source's rows and those of the joined table that they may need, but what has been dealt out already."""
        dealt = dealt or {}
        rows = self._together(self.source, dealt.get(self.source) or self.frames(self.source, split))
        if self.joined is None:
            return rows, None
        others = dealt.get(self.joined) or self.frames(
            self.joined, split.of_table(self.joined.zone, self.joined.name, self.token(self.joined))
        )
        return rows, self._together(self.joined, others)

    def frames(self, table: Table, split: ZoneSplit) -> Iterator[pl.DataFrame]:
        """The rows of a table, of a share or of a piece of it, in the types of the table."""
        empty = self.empty(table)
        for batch in read_columns(split, self.columns(table), seen=self.seen):
            yield pl.DataFrame(pl.from_arrow(batch)).cast(empty.schema)

    def token(self, table: Table) -> str | None:
        """The column that tells whose a row is; None where a row of the source may need any of the table's."""
        join = self.policy.join
        return self.policy.unit if table == self.source or (join and join.by == self.policy.unit) else None

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

    def _together(self, table: Table, frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
        return reduce(lambda a, b: a.vstack(b), frames, self.empty(table))


@dataclass(frozen=True)
class _Deal:
    """Reads a piece of a table and deals its rows out into files by share; returns which file is whose."""

    rows: ShareRows
    table: Table
    shares: int

    def __call__(self, piece: ZoneSplit) -> pl.DataFrame:
        empty = self.rows.empty(self.table)
        query = piece.dealt(self.rows.columns(self.table), self.rows.policy.unit, self.shares)
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
        dealt = {table: self._dealt(table, files) for table, files in share.files.items()}
        found = self.compute(self.rows.policy, *self.rows.read(share.split, dealt))
        for files in share.files.values():
            for _, path in files:
                if path is not None:
                    remove(Path(path))
        return found

    def _dealt(self, table: Table, files: _Files) -> Iterator[pl.DataFrame]:
        for piece, path in files:
            if path is not None:
                yield from spilled(Path(path)) or self.rows.frames(table, piece)

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
