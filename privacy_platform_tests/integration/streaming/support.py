"""What the tests of streaming share."""

from collections.abc import Mapping
from typing import Any

from privacy_platform.streaming.client import ClientSettings
from privacy_platform.streaming.topics import available


def read_all(cluster: ClientSettings, topic: str, starts: Mapping[int, int] | None = None) -> list[Any]:
    """Every record of a topic, or those from some offsets on, in the order of its partitions and offsets."""
    from kafka import TopicPartition

    ends = {TopicPartition(topic, number): r.end for number, r in available(cluster, topic).items()}
    begins = {where: starts[where.partition] if starts else 0 for where in ends}
    consumer = cluster.consumer(auto_offset_reset="earliest", max_partition_fetch_bytes=8 * 1024 * 1024)
    try:
        consumer.assign(list(ends))
        for where, begin in begins.items():
            consumer.seek(where, begin)
        records: list[Any] = []
        while len(records) < sum(ends.values()) - sum(begins.values()):
            for batch in consumer.poll(timeout_ms=1000).values():
                records += batch
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()
