"""Releasing records that must be anonymous together: anonymize, count, search, recode.

The records are read and anonymized once, with every quasi-identifier at its finest level allowed, and left where the
task ran. Only the counts of their distinct tuples come to the driver, where the search finds what the tuples become.
Then the records are recoded and copied; those that are no longer there are read and anonymized again.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from psycopg import Connection
from pyspark.sql import DataFrame, SparkSession

from privacy_platform.anonymization.kanonymity.counting import combine, count, merge
from privacy_platform.anonymization.kanonymity.recoder import Recoder
from privacy_platform.engine.anonymize import AnonymizeTask
from privacy_platform.engine.sources.zone import ZoneSplit
from privacy_platform.engine.spill import Spill, remove, spilled
from privacy_platform.engine.stage import (
    CopyOnce,
    Piece,
    StageError,
    Statistics,
    kept_pieces,
    kept_stage,
    run_kept,
    total,
)
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.warehouse.connection import Role, connect

_SPILL, _QUARANTINE, _COUNTS, _STATISTICS = "spill", "quarantine", "counts", "statistics"


@dataclass(frozen=True)
class Prepared:
    """The records of a release at their finest level, left in the cluster; what the driver knows of them.

    Attributes:
        task: what made them.
        splits: what they were made of.
        frame: where they are, and the records to quarantine.
        counts: distinct tuples of quasi-identifiers and sensitive columns, with their counts; empty without records.
        statistics: of the anonymizing.
    """

    task: AnonymizeTask
    splits: Sequence[ZoneSplit]
    frame: DataFrame
    counts: pl.DataFrame
    statistics: Statistics


@contextmanager
def prepared(spark: SparkSession, splits: Sequence[ZoneSplit], task: AnonymizeTask) -> Iterator[Prepared]:
    """Anonymize the splits to their finest level, and keep them for the block."""
    columns = counted_columns(task.policy)
    frame = kept_stage(spark, splits, _Prepare(task, columns))
    try:
        pieces = kept_pieces(frame, _COUNTS, _STATISTICS)
        counts = [_frame(payload) for _, kind, payload in pieces if kind == _COUNTS]
        statistics = total(Counter(json.loads(payload)) for _, kind, payload in pieces if kind == _STATISTICS)
        yield Prepared(task, splits, frame, merge(counts, columns) if counts else pl.DataFrame(), statistics)
    except BaseException:
        with suppress(StageError):  # what cannot be removed now goes with the session
            run_kept(frame, (_SPILL,), _discard)
        raise
    finally:
        frame.unpersist()


def copy_recoded(prepared: Prepared, recoder: Recoder) -> Statistics:
    """Copy the records to staging as the recoder makes them; returns how many were copied."""
    copy = _Copy(prepared.task, tuple(prepared.splits), recoder)
    return total(run_kept(prepared.frame, (_SPILL, _QUARANTINE), copy))


def counted_columns(policy: DatasetPolicy) -> tuple[str, ...]:
    """The columns that anonymity is a matter of: quasi-identifiers, then sensitive ones."""
    model = policy.privacy_model
    assert model is not None  # noqa: S101 - only called with a model
    return (*model.quasi_identifiers, *model.sensitive)


@dataclass(frozen=True)
class _Prepare:
    """Anonymizes a split; yields where its rows are, its quarantine, its counts and its statistics."""

    task: AnonymizeTask
    columns: tuple[str, ...]

    def __call__(self, split: ZoneSplit) -> Iterator[Piece]:
        counts: list[pl.DataFrame] = []
        statistics: Statistics = Counter()
        with closing(connect(Role.PIPELINE)) as connection, Spill() as spill:
            for part in self.task.parts(split, connection):
                statistics.update(part.statistics)
                if part.published.height:
                    counts.append(count(part.published, self.columns))
                    spill.add(part.published)
                if part.quarantined.height:
                    yield _QUARANTINE, _bytes(part.quarantined)
            if counts:
                yield _COUNTS, _bytes(combine(counts, self.columns))
                yield _SPILL, str(spill.path).encode()
            yield _STATISTICS, json.dumps(statistics).encode()


@dataclass(frozen=True)
class _Copy:
    """Recodes and copies a split."""

    task: AnonymizeTask
    splits: tuple[ZoneSplit, ...]
    recoder: Recoder

    def __call__(self, split: int, pieces: Iterator[Piece]) -> Statistics:
        release, spills = self.task.release, []
        with (
            closing(connect(Role.PIPELINE, wait_for_disk=False)) as output,
            CopyOnce(output, release.staging, split) as copy,
        ):
            statistics = copy.done
            for kind, payload in pieces:
                if kind == _SPILL:
                    spills.append(Path(payload.decode()))
                elif copy.done is None:
                    copy.copy(release.quarantine, _frame(payload))
            if statistics is None:
                statistics = Counter()
                for path in spills:
                    for frame in spilled(path) or self._again(split, output):
                        recoded = self.recoder.apply(frame)
                        copy.copy(release.staging, recoded)
                        statistics["copied"] += recoded.height
                copy.commit(statistics)
        for path in spills:
            remove(path)
        return statistics

    def _again(self, split: int, connection: Connection) -> Iterator[pl.DataFrame]:
        return (part.published for part in self.task.parts(self.splits[split], connection) if part.published.height)


def _discard(split: int, pieces: Iterator[Piece]) -> Statistics:
    for _, payload in pieces:
        remove(Path(payload.decode()))
    return Counter()


def _bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="lz4")
    return buffer.getvalue()


def _frame(payload: bytes) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(payload))
