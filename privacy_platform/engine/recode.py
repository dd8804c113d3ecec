"""Releasing records that must be anonymous together: anonymize, count, search, recode.

The records are read and anonymized once, with every quasi-identifier at its finest level allowed, and kept in the
cluster. Only the counts of their distinct tuples come to the driver, where the search finds what the tuples become.
Then the kept records are recoded and copied.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import polars as pl
from pyspark.sql import DataFrame, SparkSession

from privacy_platform.anonymization.kanonymity.counting import count, merge
from privacy_platform.anonymization.kanonymity.recoder import Recoder
from privacy_platform.engine.anonymize import AnonymizeTask
from privacy_platform.engine.sources.zone import ZoneSplit
from privacy_platform.engine.stage import (
    CopyOnce,
    Piece,
    Statistics,
    kept_pieces,
    kept_stage,
    run_kept,
    total,
)
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.warehouse.connection import Role, adbc
from privacy_platform.warehouse.release import Release

_ROWS, _QUARANTINE, _COUNTS, _STATISTICS = "rows", "quarantine", "counts", "statistics"


@dataclass(frozen=True)
class Prepared:
    """The records of a release at their finest level, kept in the cluster; what the driver knows of them.

    Attributes:
        frame: the kept pieces.
        counts: distinct tuples of quasi-identifiers and sensitive columns, with their counts; empty without records.
        statistics: of the anonymizing.
    """

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
        yield Prepared(frame, merge(counts, columns) if counts else pl.DataFrame(), statistics)
    finally:
        frame.unpersist()


def copy_recoded(prepared: Prepared, release: Release, recoder: Recoder) -> Statistics:
    """Copy the kept records to staging as the recoder makes them; returns how many were copied."""
    return total(run_kept(prepared.frame, (_ROWS, _QUARANTINE), _Copy(release, recoder)))


def counted_columns(policy: DatasetPolicy) -> tuple[str, ...]:
    """The columns that anonymity is a matter of: quasi-identifiers, then sensitive ones."""
    model = policy.privacy_model
    assert model is not None  # noqa: S101 - only called with a model
    return (*model.quasi_identifiers, *model.sensitive)


@dataclass(frozen=True)
class _Prepare:
    """Anonymizes a split; yields its rows, its quarantine, its counts and its statistics."""

    task: AnonymizeTask
    columns: tuple[str, ...]

    def __call__(self, split: ZoneSplit) -> Iterator[Piece]:
        counts: list[pl.DataFrame] = []
        statistics: Statistics = Counter()
        with closing(adbc(Role.PIPELINE)) as connection:
            for part in self.task.parts(split, connection):
                statistics.update(part.statistics)
                if part.published.height:
                    counts.append(count(part.published, self.columns))
                for kind, frame in ((_ROWS, part.published), (_QUARANTINE, part.quarantined)):
                    if frame.height:
                        yield kind, _bytes(frame)
        if counts:
            yield _COUNTS, _bytes(merge(counts, self.columns))
        yield _STATISTICS, json.dumps(statistics).encode()


@dataclass(frozen=True)
class _Copy:
    """Recodes and copies the pieces of a split."""

    release: Release
    recoder: Recoder

    def __call__(self, split: int, pieces: Iterator[Piece]) -> Statistics:
        with (
            closing(adbc(Role.PIPELINE)) as output,
            CopyOnce(output, self.release.staging, split) as copy,
        ):
            if copy.done is not None:
                return copy.done
            statistics: Statistics = Counter()
            for kind, payload in pieces:
                frame = _frame(payload)
                if kind == _QUARANTINE:
                    copy.copy(self.release.quarantine, frame)
                    continue
                recoded = self.recoder.apply(frame)
                copy.copy(self.release.staging, recoded)
                statistics["copied"] += recoded.height
            copy.commit(statistics)
            return statistics


def _bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="lz4")
    return buffer.getvalue()


def _frame(payload: bytes) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(payload))
