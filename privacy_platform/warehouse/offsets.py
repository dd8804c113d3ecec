"""How far each topic has been published: read to plan the next batch, advanced in the transaction that publishes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection

from privacy_platform.errors import PrivacyPlatformError


class OffsetsMovedError(PrivacyPlatformError):
    """Somebody else has published part of what a batch has read."""


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The records [start, end) of a partition of a topic."""

    topic: str
    partition: int
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


def offsets(connection: Connection, topic: str) -> dict[int, int]:
    """Partition → the first offset that is not in the zones; a partition never read is not there."""
    rows = connection.execute(
        "SELECT partition, next_offset FROM governance.stream_offsets WHERE topic = %s ORDER BY partition", [topic]
    ).fetchall()
    return {int(partition): int(offset) for partition, offset in rows}


def advance(connection: Connection, ranges: Sequence[OffsetRange], run_id: str, expected: Mapping[int, int]) -> None:
    """Move on to the ends of the given ranges of one topic, in the caller's transaction.

    Args:
        connection: inside the transaction that publishes the ranges' records.
        ranges: what it publishes.
        run_id: the run.
        expected: the offsets the batch was planned from.

    Raises:
        OffsetsMovedError: the offsets are others by now.
    """
    for each in ranges:
        before = expected.get(each.partition)
        statement = (
            "INSERT INTO governance.stream_offsets (next_offset, run_id, topic, partition) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING"
            if before is None
            else "UPDATE governance.stream_offsets SET next_offset = %s, run_id = %s, advanced_at = now() "
            "WHERE topic = %s AND partition = %s AND next_offset = %s"
        )
        values = [each.end, run_id, each.topic, each.partition, *([] if before is None else [before])]
        if connection.execute(statement, values).rowcount != 1:
            raise OffsetsMovedError(
                f"{each.topic}[{each.partition}] was read by another run meanwhile. Nothing was published; try again."
            )


def complete_until(connection: Connection, topic: str) -> datetime | None:
    """The time up to which everything sent to the topic is published; None when it was never read to its end."""
    row = connection.execute("SELECT complete_until FROM governance.streams WHERE topic = %s", [topic]).fetchone()
    return row[0] if row else None


def complete(connection: Connection, topic: str, until: datetime) -> None:
    """Put down that everything sent by `until` is published, in the caller's transaction."""
    connection.execute(
        "INSERT INTO governance.streams (topic, complete_until) VALUES (%s, %s) "
        "ON CONFLICT (topic) DO UPDATE SET complete_until = greatest(streams.complete_until, excluded.complete_until)",
        [topic, until],
    )
