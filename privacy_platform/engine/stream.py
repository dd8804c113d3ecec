"""Streaming: one batch of a topic after the other, in one process with one Spark session.

Each batch is `release_batch`, as in a run of Dagster; nothing else publishes. A batch is bounded, and no more than the
next one lands before it is published, so what arrives faster than that waits in Kafka. A batch that fails is tried
again, after a while that doubles from one failure to the next; nothing is skipped.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from pyspark.sql import SparkSession

from privacy_platform.engine.ahead import Ahead, stream_name
from privacy_platform.engine.gate import Run
from privacy_platform.engine.release_stream import BATCH_EVENTS, NotStreamedError, StreamReport, release_batch
from privacy_platform.engine.stage import StageError, place_of
from privacy_platform.engine.standing_keys import StandingKeys
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.compile import raw_table
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.migrations import ensure_warehouse
from privacy_platform.warehouse.release import ReleaseBusyError, drop_staging, holding

IDLE_SECONDS = 0.2
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0


def streamed_policy(policies: PolicySet, dataset: str) -> DatasetPolicy:
    """The policy of a dataset that has a topic.

    Raises:
        NotStreamedError: there is no such dataset, or it has none.
    """
    policy = policies.datasets.get(dataset)
    if policy is None or policy.source.topic is None:
        names = ", ".join(name for name, each in policies.datasets.items() if each.source.topic) or "none"
        raise NotStreamedError(f"{dataset} has no topic (source.topic of its policy); these have one: {names}.")
    return policy


@contextmanager
def streaming(topic: str) -> Iterator[None]:
    """Be the one process that streams `topic`.

    Raises:
        ReleaseBusyError: another one does.
    """
    with holding(stream_name(topic), f"{topic} is being streamed by another process: stop that one first."):
        # What one had landed ahead that was killed; should the server hold on to it, the next one drops it.
        with suppress(PrivacyPlatformError, psycopg.Error), connect(Role.PIPELINE) as connection:
            drop_staging(connection, stream_name(topic))
        yield


def is_streamed(topic: str) -> bool:
    """Whether some process streams `topic`."""
    try:
        with holding(stream_name(topic), "", wait=0.1):
            return False
    except ReleaseBusyError:
        return True


def stream(
    spark: Callable[[], SparkSession],
    policy: DatasetPolicy,
    policies: PolicySet,
    stop: threading.Event,
    *,
    limit: int = BATCH_EVENTS,
    published: Callable[[StreamReport], None] = lambda report: None,
    failed: Callable[[PrivacyPlatformError, float], None] = lambda error, delay: None,
) -> None:
    """Publish what arrives in a dataset's topic until `stop` is set; the batch under way is finished.

    Args:
        spark: gives the session.
        policy: the dataset.
        policies: all policies.
        stop: set from elsewhere to end.
        limit: how many records a batch has at the most.
        published: told of each batch.
        failed: told of each failure, and of the seconds until the next attempt.

    Raises:
        StageError: Spark itself has died; start the process again.
    """
    failures = 0
    standing = StandingKeys(raw_table(policy))
    with Ahead(spark, policy, limit, wanted=lambda: not stop.is_set()) as ahead:
        while not stop.is_set():
            try:
                if failures:
                    ahead.forget()
                    standing.forget()
                run = Run(uuid.uuid4().hex)
                report = release_batch(spark, policy, policies, run, limit=limit, ahead=ahead, standing=standing)
            except PrivacyPlatformError as error:
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2**failures)
                failures += 1
                failed(error, delay)
                stop.wait(delay)
                _mend(failed)
            except Exception as error:
                message = f"Streaming of {policy.source.topic} ended: {place_of(error)}. Start it again."
                raise StageError(message) from None
            else:
                failures = 0
                if report is None:
                    stop.wait(IDLE_SECONDS)
                else:
                    published(report)


def _mend(failed: Callable[[PrivacyPlatformError, float], None]) -> None:
    """Start the embedded server again, should it be gone."""
    try:
        ensure_warehouse()
    except PrivacyPlatformError as error:
        failed(error, 0.0)
