"""Aggregating zone tables by shares of the people: each share is computed in a task, and the results added up.

A task reads all blocks and keeps the rows of its share. Where there are more shares than processors, the source, and
what is joined to it by the person, is read once instead, and the rows are dealt out into files, one for each share;
what is joined by anything else every share reads. On a cluster files would lie on other machines than are to read
them, so shares are larger there and every one reads its rows. Rows never go through the JVM, and nothing of one leaves
the tasks: what does is groups, which are few.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import polars as pl
from psycopg import Connection
from pyspark.sql import SparkSession

from privacy_platform.engine.release_anonymized import UpstreamMissingError
from privacy_platform.engine.session import is_local, parallelism
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

__all__ = ["Read", "Share", "ShareRows", "Shares", "require_upstream"]

Read = Mapping[Table, Sequence[Partition]]
"""The tables an aggregate is made from, its source first, with the partitions to read."""
Compute = Callable[[AggregatePolicy, pl.DataFrame, pl.DataFrame | None], pl.DataFrame]
"""What becomes of the rows of a share: the policy, the source's rows, the joined table's."""
# So little that a task's memory is small; where every share reads the table, so much that there are few.
_DEALT_BYTES, _READ_BYTES = 2**28, 2**30
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
        self._splits = share_splits(
            connection,
            source.zone,
            names,
            policy.unit,
            parallelism=parallelism(),
            most=_DEALT_BYTES if is_local() else _READ_BYTES,
        )
        joined, seed = others[0][0] if policy.join else None, secrets.randbits(63)
        self.rows = ShareRows(policy, source, joined, seen, hashed, tuple(present), seed)
        self._pieces = {
            table: zone_splits(connection, table, partitions, parallelism=parallelism())
            for table, partitions in read.items()
            if self.rows.token(table)
        }
        self._made: list[Share] | None = None

    def made(self, spark: SparkSession) -> "list[Share]":
        """The shares, their rows dealt out into files if they are many."""
        if self._made is None:
            deal = is_local() and len(self._splits) > parallelism()
            self._made = self._dealt(spark) if deal else [Share(split) for split in self._splits]
        return self._made

    def computed(self, spark: SparkSession, compute: Compute) -> list[pl.DataFrame]:
        """What `compute`, a function that can be pickled, makes of each share; of no rows where there is no share.

        Files of dealt rows are removed: what else is to be made of them comes before.
        """
        task, made = _Task(self.rows, compute), self.made(spark)
        try:
            return frame_stage(spark, made, task) or [task.of_nobody()]
        finally:
            for path in (path for share in made for path in share.paths):
                remove(path)

    def _dealt(self, spark: SparkSession) -> "list[Share]":
        """The shares with the files that their rows lie in, in the order of the blocks these were read from.

        The largest comes first: that of a person of many rows, begun last, would keep one processor waiting.
        """
        dealt: list[dict[Table, _Files]] = [{} for _ in self._splits]
        for table, pieces in self._pieces.items():
            files = frame_stage(spark, pieces, _Deal(self.rows, table, len(self._splits)))
            found = [dict(frame.iter_rows()) for frame in files]
            for split, of_share in zip(self._splits, dealt, strict=True):
                of_share[table] = tuple(
                    (replace(split, blocks=p.blocks), f.get(split.share)) for p, f in zip(pieces, found, strict=True)
                )
        shares = [Share(split, files) for split, files in zip(self._splits, dealt, strict=True)]
        return sorted(shares, key=lambda share: share.size, reverse=True)


_Files = tuple[tuple[ZoneSplit, str | None], ...]
"""Pieces of a table, each with the file of the rows of one share in it, None where there is none."""


@dataclass(frozen=True)
class Share:
    """A share, and, if rows were dealt out, the files of the tables they were dealt out of."""

    split: ZoneSplit
    files: Mapping[Table, _Files] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [Path(path) for files in self.files.values() for _, path in files if path is not None]

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(path.stat().st_size for path in self.paths if path.exists())


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

    def read(self, share: Share) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The source's rows, and those of the joined table that they may need."""
        rows = self._together(self.source, share, share.split)
        if self.joined is None:
            return rows, None
        other = share.split.of_table(self.joined.zone, self.joined.name, self.token(self.joined))
        return rows, self._together(self.joined, share, other)

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

    def _together(self, table: Table, share: Share, split: ZoneSplit) -> pl.DataFrame:
        frames = self._dealt(table, share.files[table]) if table in share.files else self.frames(table, split)
        return reduce(lambda a, b: a.vstack(b), frames, self.empty(table))

    def _dealt(self, table: Table, files: _Files) -> Iterator[pl.DataFrame]:
        for piece, path in files:
            if path is not None:
                # Whoever clears the scratch folder costs time and no figure.
                yield from spilled(Path(path)) or self.frames(table, piece)


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
    """Computes a share."""

    rows: ShareRows
    compute: Compute

    def __call__(self, share: Share) -> pl.DataFrame:
        return self.compute(self.rows.policy, *self.rows.read(share))

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
