"""Topics: made when they are missing, and how far each of their partitions reaches."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from privacy_platform.streaming.client import ClientSettings, StreamingError

USER_EVENTS = "user-events"
PARTITIONS = 3
_WAIT_MS = 30_000


@dataclass(frozen=True)
class OffsetRange:
    """The messages of a partition from `start`, which is in it, to `end`, which is not."""

    start: int
    end: int

    @property
    def messages(self) -> int:
        """How many there are, where nothing was compacted or written in transactions."""
        return self.end - self.start


def ensure_topic(cluster: ClientSettings, name: str = USER_EVENTS, *, partitions: int = PARTITIONS) -> None:
    """Make a topic ready for use; one that exists is left as it is. Its messages are deleted by age, never compacted.

    Raises:
        StreamingError: the cluster cannot be reached, or refuses.
    """
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    admin = cluster.admin()
    try:
        topic = {"num_partitions": partitions, "configs": {"cleanup.policy": "delete"}}
        with suppress(TopicAlreadyExistsError):
            admin.create_topics({name: topic})
        admin.wait_for_topics([name], timeout_ms=_WAIT_MS)
    except KafkaError as error:
        raise StreamingError(f"The topic {name} cannot be made ready ({type(error).__name__}).") from None
    finally:
        admin.close()


def names(cluster: ClientSettings) -> Sequence[str]:
    """The topics there are, Kafka's own left out.

    Raises:
        StreamingError: the cluster cannot be reached.
    """
    from kafka.errors import KafkaError

    admin = cluster.admin()
    try:
        return sorted(name for name in admin.list_topics() if not name.startswith("__"))
    except KafkaError as error:
        raise StreamingError(f"The topics cannot be had ({type(error).__name__}).") from None
    finally:
        admin.close()


def available(cluster: ClientSettings, name: str = USER_EVENTS) -> Mapping[int, OffsetRange]:
    """For each partition of a topic, the messages it holds now. Reads no message.

    Raises:
        StreamingError: the cluster cannot be reached, or has no such topic.
    """
    from kafka import TopicPartition
    from kafka.errors import KafkaError

    consumer = cluster.consumer()
    try:
        partitions = [TopicPartition(name, number) for number in sorted(consumer.partitions_for_topic(name) or ())]
        if not partitions:
            raise StreamingError(f"There is no topic {name}: `privacy-platform produce` makes it.")
        starts = consumer.beginning_offsets(partitions)
        ends = consumer.end_offsets(partitions)
        return {where.partition: OffsetRange(starts[where], ends[where]) for where in partitions}
    except KafkaError as error:
        raise StreamingError(f"The offsets of the topic {name} cannot be had ({type(error).__name__}).") from None
    finally:
        consumer.close()
