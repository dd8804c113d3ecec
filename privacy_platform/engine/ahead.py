"""Landing records of a topic in staging: the part of a batch that needs to know nothing of the batch before.

So the records of the next batch can land while the one before is published: adding rows to large, indexed tables is
work for one processor, and landing has some for all others. What has landed ahead belongs to the stream, not to the raw
table: a run of that table between two batches leaves it alone. Whatever it did, and whatever the batch before has
published, is looked for when the batch goes on.
"""

import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import psycopg
from psycopg import Connection, errors
from pyspark.sql import SparkSession

from privacy_platform.engine.gate import Run, in_memory
from privacy_platform.engine.land import LandTask
from privacy_platform.engine.repeats import drop_repeats, open_digests
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.sources.topic import Backlog, backlog_after, topic_splits
from privacy_platform.engine.stage import Statistics, run_stage, total
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.compile import raw_table
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.vault.keyring import load_keyring
from privacy_platform.vault.subjects import check_keyring
from privacy_platform.warehouse.append import analyze, appending
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import Release, ReleaseBusyError, drop_staging, holding, open_staging


@dataclass(frozen=True)
class Landed:
    """Records that are sealed in staging, none of them twice, though some may have landed before.

    `left` is what was to be read, `run` the run they belong to, `keys_used` the versions of the keys.
    """

    left: Backlog
    run: Run
    release: Release
    statistics: Statistics
    keys_used: tuple[str, ...]


def land_records(
    connection: Connection,
    spark: Callable[[], SparkSession],
    policy: DatasetPolicy,
    left: Backlog,
    run: Run,
    release: Release,
) -> Landed:
    """Stage the records to be read next.

    Args:
        connection: as the pipeline role.
        spark: gives the session.
        policy: the dataset.
        left: the records.
        run: the run.
        release: what they are staged for.

    Raises:
        TopicError: the broker cannot be read.
        StageError: a task failed.
        KeyringError: the keyring is not the warehouse's.
    """
    keyring = load_keyring()
    check_keyring(connection, keyring)
    open_staging(connection, release)
    open_digests(connection, release)
    now = datetime.now(UTC)
    task = LandTask(policy, release, run.id, now, now.date())
    splits = topic_splits(left.ranges, policy.source.schema_version, parallelism=parallelism())
    statistics = total(run_stage(spark(), splits, task))
    analyze(connection, release)
    digested = statistics["staged"] if policy.on_duplicate == "first" else None
    statistics["duplicates"] += drop_repeats(connection, release, "min", digested=digested)
    return Landed(left, run, release, statistics, (f"token/v{keyring.pinned}", f"sealing/v{keyring.current}"))


class Ahead:
    """Lands the next batch of a topic in a thread; use as a context manager, by the one process that streams it.

    Whoever publishes what has landed drops it; what nobody publishes is dropped here.
    """

    def __init__(
        self,
        spark: Callable[[], SparkSession],
        policy: DatasetPolicy,
        limit: int,
        *,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._spark, self._policy, self._limit, self._wanted = spark, policy, limit, wanted
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="landing")
        self._next: Future[Landed] | None = None
        self._begun: list[Release] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(PrivacyPlatformError):  # the next one to look drops what is left
            self.forget()
        self._pool.shutdown()

    def begin(self, left: Backlog) -> None:
        """Begin to land what comes after `left`, where there is more and it is wanted."""
        if not left.ends and self._wanted():
            release = appending(raw_table(self._policy), owner=stream_name(left.topic))
            self._begun.append(release)
            self._next = self._pool.submit(self._land, left, release)

    def take(self) -> Landed | None:
        """What has landed, as soon as it has; None when nothing was begun.

        Raises:
            PrivacyPlatformError: as `land_records`.
        """
        begun, self._next = self._next, None
        return begun.result() if begun else None

    def published(self, connection: Connection) -> None:
        """Drop what is in its zone by now: all but what is landing. What somebody holds still goes the next time."""
        with suppress(errors.LockNotAvailable):
            for release in self._begun[: -1 if self._next else None]:
                drop_staging(connection, release.mark, only=release)
                self._begun.remove(release)

    def forget(self) -> None:
        """Drop all that has landed; to be called when a batch has failed, since its records must land first.

        Raises:
            WarehouseConnectionError: the server does not answer.
        """
        begun, self._next = self._next, None
        if begun:
            wait([begun])  # of no use any more, nor is its failure
        if not self._begun:
            return
        with suppress(psycopg.Error), connect(Role.PIPELINE) as connection:
            while self._begun:
                drop_staging(connection, self._begun[-1].mark, only=self._begun[-1])
                self._begun.pop()

    def _land(self, left: Backlog, release: Release) -> Landed:
        with connect(Role.PIPELINE) as connection:
            in_memory(connection)
            following = backlog_after(left.topic, left.reached, self._limit)
            return land_records(connection, self._spark, self._policy, following, Run(uuid.uuid4().hex), release)


def stream_name(topic: str) -> str:
    """The name of a topic's stream: of the lock its one process holds, and of what it has landed ahead."""
    return f"stream {topic}"


def drop_abandoned(connection: Connection, policy: DatasetPolicy) -> None:
    """Drop what a process that streamed the dataset's topic has landed ahead before it was killed."""
    if policy.source.topic is None:
        return
    name = stream_name(policy.source.topic)
    try:
        with holding(name, "it is being streamed", wait=0.1):
            drop_staging(connection, name)
    except (ReleaseBusyError, errors.LockNotAvailable):
        connection.rollback()
