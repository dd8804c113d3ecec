"""Stages: one function over the splits of a source, run by Spark, each split a task of its own.

A task that Spark runs twice must not double rows, so it copies through `CopyOnce`: its rows and its statistics commit
together with a row that only one attempt can insert.
"""

import gc
import io
import json
import os
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import polars as pl
import pyarrow as pa
from psycopg import Connection
from psycopg.types.json import Jsonb
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from privacy_platform import settings
from privacy_platform.engine.session import is_local, spark_attempts
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.streaming.client import BOOTSTRAP_VARIABLE
from privacy_platform.warehouse.copying import copy_frame
from privacy_platform.warehouse.release import STAGING

Statistics = Counter[str]
SplitT = TypeVar("SplitT")
ResultT = TypeVar("ResultT")
_CARRIED = (settings.HOME_VARIABLE, settings.LANDING_VARIABLE, settings.POLICIES_VARIABLE, BOOTSTRAP_VARIABLE)
# What this process was started with; in a worker, what the machine it runs on was given.
_OWN = {name: os.environ[name] for name in _CARRIED if name in os.environ}


class StageError(PrivacyPlatformError):
    """A stage did not end; its message names where a task failed. Trying again may help."""


class TaskRefusedError(PrivacyPlatformError):
    """A task refused its split; the message is the task's own. Trying again is of no use."""


def run_stage(
    spark: SparkSession,
    splits: Sequence[SplitT],
    task: Callable[[SplitT], Statistics],
) -> list[Statistics]:
    """Run `task` on every split and return each split's statistics, in the order of the splits.

    Args:
        spark: the session.
        splits: picklable pieces of a source.
        task: a picklable function; it runs in a worker.
    """
    if not splits:
        return []
    environment = carried_environment()
    pieces = list(splits)

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        enter_worker(environment)
        for batch in batches:
            for index in map(int, batch.column(0).to_numpy()):
                yield _answer(index, partial(task, pieces[index]))

    # One partition, so one task, for each split.
    frame = spark.range(0, len(pieces), 1, len(pieces)).mapInArrow(work, _ANSWERS)
    with driver_errors():
        answers = frame.collect()  # one row of counts a split, never data
    return _statistics(answers)


Piece = tuple[str, bytes]
"""What a split yields in a stage that is kept: a kind, and a value of that kind as bytes."""
_PIECES = "split long, kind string, payload binary"
_ERROR, _FRAME = "error", "frame"


def kept_stage(spark: SparkSession, splits: Sequence[SplitT], task: Callable[[SplitT], Iterator[Piece]]) -> DataFrame:
    """Run `task` on every split and keep what it yields in the cluster, for `kept_pieces` and `run_kept` to read.

    Kept in the executors' memory, and what does not fit there on their disks, until the frame is unpersisted. What
    is lost with an executor is computed again, so a task must change nothing and yield the same each time.
    """
    return _pieces_of(spark, splits, task).persist(StorageLevel.MEMORY_AND_DISK)


def frame_stage(
    spark: SparkSession, splits: Sequence[SplitT], task: Callable[[SplitT], pl.DataFrame]
) -> list[pl.DataFrame]:
    """Run `task` on every split and bring what it makes to the driver: groups, which are few; never rows of people.

    Raises:
        TaskRefusedError: a task refused its split.
    """
    if not splits:
        return []
    pieces = kept_pieces(_pieces_of(spark, splits, partial(_one_frame, task)), _FRAME)
    return [pl.read_ipc(io.BytesIO(payload)) for _, _, payload in pieces]


def _one_frame(task: Callable[[SplitT], pl.DataFrame], split: SplitT) -> Iterator[Piece]:
    buffer = io.BytesIO()
    task(split).write_ipc(buffer, compression="lz4")
    yield _FRAME, buffer.getvalue()


def _pieces_of(spark: SparkSession, splits: Sequence[SplitT], task: Callable[[SplitT], Iterator[Piece]]) -> DataFrame:
    carried = carried_environment()
    pieces = list(splits)

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        enter_worker(carried)
        for batch in batches:
            for index in map(int, batch.column(0).to_numpy()):
                try:
                    yield from (_piece(index, *piece) for piece in _discreetly(task(pieces[index])))
                except PrivacyPlatformError as refused:
                    yield _piece(index, _ERROR, str(refused).encode())

    return spark.range(0, len(pieces), 1, max(1, len(pieces))).mapInArrow(work, _PIECES)


def kept_pieces(frame: DataFrame, *kinds: str) -> list[tuple[int, str, bytes]]:
    """The (split, kind, payload) of some kinds, brought to the driver: counts and statistics, never data.

    Raises:
        TaskRefusedError: a task refused its split.
    """
    with driver_errors():
        rows = frame.filter(frame.kind.isin(_ERROR, *kinds)).collect()
    _refused(bytes(row["payload"]).decode() for row in rows if row["kind"] == _ERROR)
    return sorted((int(row["split"]), str(row["kind"]), bytes(row["payload"])) for row in rows)


def run_kept(
    frame: DataFrame, kinds: Sequence[str], task: Callable[[int, Iterator[Piece]], Statistics]
) -> list[Statistics]:
    """Run `task` on the kept pieces of some kinds of every split, in their order; returns the splits' statistics."""
    environment = carried_environment()

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        enter_worker(environment)
        found = ((s, (k, p)) for b in batches for s, k, p in zip(*(c.to_pylist() for c in b.columns), strict=True))
        for split, pieces in groupby(found, key=itemgetter(0)):
            yield _answer(split, partial(task, split, map(itemgetter(1), pieces)))

    with driver_errors():
        answers = frame.filter(frame.kind.isin(*kinds)).mapInArrow(work, _ANSWERS).collect()
    return _statistics(answers)


def _piece(split: int, kind: str, payload: bytes) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "split": pa.array([split], pa.int64()),
            "kind": pa.array([kind], pa.string()),
            "payload": pa.array([payload], pa.binary()),
        }
    )


_ANSWERS = "split long, statistics string, error string"


def _answer(split: int, work: Callable[[], Statistics]) -> pa.RecordBatch:
    """A split's statistics, or why it was refused: that is no use trying again, so the stage fails with its words."""
    statistics, error = None, None
    try:
        statistics = json.dumps(_discreet(work))
    except PrivacyPlatformError as refused:
        error = str(refused)
    return pa.RecordBatch.from_pydict(
        {
            "split": pa.array([split], pa.int64()),
            "statistics": pa.array([statistics], pa.string()),
            "error": pa.array([error], pa.string()),
        }
    )


def _statistics(answers: Sequence[Any]) -> list[Statistics]:
    _refused(row["error"] for row in answers if row["error"])
    return [Counter(json.loads(row["statistics"])) for row in sorted(answers, key=lambda row: int(row["split"]))]


def _refused(errors: Iterable[str]) -> None:
    messages = sorted(set(errors))
    if messages:
        raise TaskRefusedError("; ".join(messages[:3]))


def _discreetly(pieces: Iterator[Piece]) -> Iterator[Piece]:
    while (piece := _discreet(partial(next, pieces, None))) is not None:
        yield piece


def _discreet(work: Callable[[], ResultT]) -> ResultT:
    """Work so that a failure's message names its place and kind only: a library's own can hold values."""
    try:
        return work()
    except PrivacyPlatformError:
        raise
    except Exception as error:
        raise RuntimeError(place_of(error)) from None


def place_of(error: BaseException) -> str:
    """Kind and place of an error, in words that hold no value of the data, as a library's own message may."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((f for f in reversed(frames) if "privacy_platform" in f.filename), frames[-1])
    return f"{type(error).__name__} in {os.path.basename(ours.filename)}, line {ours.lineno}"


@contextmanager
def driver_errors() -> Iterator[None]:
    """Turn a failure of Spark into an error that names the worker's place of failure and nothing else."""
    try:
        yield
    except PySparkException as error:
        found = re.search(r"RuntimeError: (\w+ in [\w.]+, line \d+)", str(error))
        where = found.group(1) if found else type(error).__name__
        raise StageError(
            f"A Spark task failed {spark_attempts()} times ({where}). Nothing was published; see the executor's log, "
            "then materialize again."
        ) from None


def collected(groups: DataFrame) -> pl.DataFrame:
    """What Spark has computed, on the driver: groups, which are few; never rows of people."""
    with driver_errors():
        arrow = groups.toArrow()
    frame = pl.from_arrow(arrow)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table gives a frame
    return frame


def read_stage(
    spark: SparkSession,
    splits: Sequence[SplitT],
    read: Callable[[SplitT], Iterator[pa.RecordBatch]],
    schema: str,
) -> DataFrame:
    """A DataFrame whose partitions are the splits, read in the workers; `schema` is Spark's DDL."""
    environment = carried_environment()
    pieces = list(splits)

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        enter_worker(environment)
        for batch in batches:
            for index in map(int, batch.column(0).to_numpy()):
                try:
                    yield from read(pieces[index])
                except Exception as error:
                    raise RuntimeError(place_of(error)) from None

    return spark.range(0, len(pieces), 1, max(1, len(pieces))).mapInArrow(work, schema)


@dataclass(frozen=True)
class Carried:
    """The driver's settings, as they travel to the workers; `local` when these are on its machine."""

    settings: Mapping[str, str]
    local: bool


def carried_environment() -> Carried:
    """The settings a worker needs: paths and addresses. Keys and passwords never travel: a worker reads its own."""
    carried = {name: os.environ[name] for name in _CARRIED if name in os.environ}
    return Carried({settings.HOME_VARIABLE: str(settings.home())} | carried, is_local())


def enter_worker(carried: Carried) -> None:
    """Take over the driver's settings, once in each task; on a cluster but those that the worker's own machine has."""
    os.environ.update(carried.settings if carried.local else {**carried.settings, **_OWN})
    _leave_garbage_to_spark()


@cache
def _leave_garbage_to_spark() -> None:
    """Collect none within a task, and between tasks, when Spark does, none of what was imported.

    What a task makes holds no cycles: records by the ten thousand would be looked at over and over for nothing. To look
    at all that was imported took longer than the tasks.
    """
    import adbc_driver_postgresql.dbapi  # noqa: F401 - and pandas with it, which every task comes to need

    gc.freeze()
    gc.disable()


def total(statistics: Iterable[Statistics]) -> Statistics:
    """The sum over the splits."""
    summed: Statistics = Counter()
    for each in statistics:
        summed.update(each)
    return summed


class CopyOnce:
    """Copies a split's rows into staging tables, exactly once whatever Spark retries.

    Use as a context manager around the split's work; nothing is visible unless the block ends without an error.
    When an earlier attempt has committed, `done` holds its statistics and there is nothing to do.
    """

    def __init__(self, connection: Connection, stage: str, split: int) -> None:
        self._connection = connection
        self._stage = stage
        self._split = split
        self.done: Statistics | None = None

    def __enter__(self) -> "CopyOnce":
        # Another attempt that is still at work is waited for as long as a statement may take: were this one to give
        # up sooner, a speculative attempt at a long task would count as its failure.
        self._connection.execute("SET LOCAL lock_timeout = 0")
        first = self._connection.execute(
            "INSERT INTO staging.commits (stage, split) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [self._stage, self._split],
        )
        if first.rowcount == 0:
            [(statistics,)] = self._connection.execute(
                "SELECT statistics FROM staging.commits WHERE stage = %s AND split = %s", [self._stage, self._split]
            ).fetchall()
            self.done = Counter(statistics)
        return self

    def copy(self, table: str, frame: pl.DataFrame) -> None:
        """COPY the frame to the end of `staging.<table>`; its types must be exactly the table's."""
        if frame.height:
            copy_frame(self._connection, STAGING, table, frame)

    def commit(self, statistics: Statistics) -> None:
        """Make the split's rows and statistics permanent."""
        self._connection.execute(
            "UPDATE staging.commits SET statistics = %s WHERE stage = %s AND split = %s",
            [Jsonb(statistics), self._stage, self._split],
        )
        self._connection.commit()

    def __exit__(self, *_: object) -> None:
        self._connection.rollback()
