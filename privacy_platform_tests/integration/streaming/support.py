"""What the tests of streaming share."""

from typing import Any

from privacy_platform.streaming.client import ClientSettings
from privacy_platform.streaming.topics import available


def read_all(cluster: ClientSettings, topic: str) -> list[Any]:
    """Every record of a topic, in the order of its partitions and offsets."""
    from kafka import TopicPartition

    ranges = {TopicPartition(topic, number): r for number, r in available(cluster, topic).items()}
    consumer = cluster.consumer(auto_offset_reset="earliest", max_partition_fetch_bytes=8 * 1024 * 1024)
    try:
        consumer.assign(list(ranges))
        consumer.seek_to_beginning()
        records: list[Any] = []
        while len(records) < sum(r.messages for r in ranges.values()):
            for batch in consumer.poll(timeout_ms=1000).values():
                records += batch
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()
