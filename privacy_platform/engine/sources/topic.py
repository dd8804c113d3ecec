"""A Kafka topic as a source: ranges of offsets, each read by one task with a consumer of its own.

A message is one record, its value a JSON object like a line of a landing file. What cannot be a record becomes a
reject with its offset: no value (a tombstone), too large, another schema version, a field that the policy does not
know, broken JSON, a wrong type. A range that the broker has deleted meanwhile is an error, never skipped.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import polars as pl
from psycopg import Connection

from privacy_platform.engine.sources.batch import LINE, Batch, convert, parse_json, rejects_of
from privacy_platform.engine.sources.json_lines import Raw, parse_lines
from privacy_platform.engine.sources.lines import line_ends
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.model import SourceType
from privacy_platform.streaming.cluster import client_settings
from privacy_platform.streaming.topics import available
from privacy_platform.warehouse.offsets import OffsetRange, offsets

MAX_MESSAGE_BYTES = 2**20
SCHEMA_HEADER = "schema_version"
_BATCH_RECORDS, _BATCH_BYTES, _POLL_RECORDS = 50_000, 24 * 2**20, 10_000
_SILENCE_SECONDS = 30.0
_LEAST_SPLIT, _ROUNDS = 10_000, 3
_FETCH = {
    "auto_offset_reset": "none",
    # How long to wait before looking whether the broker has answered; a tenth of a second would be most of a batch.
    "retry_backoff_ms": 10,
    "max_partition_fetch_bytes": 8 * 2**20,
    "fetch_max_bytes": 32 * 2**20,
    "fetch_max_wait_ms": 20,
}


class Message(Protocol):
    """What kafka-python gives for a message, as far as it is used."""

    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class TopicError(PrivacyPlatformError):
    """A topic cannot be read; the message names topic and partition."""


@dataclass(frozen=True, slots=True)
class TopicSplit:
    """The records [start, end) of a partition; `schema_version` is the one the policy was written for."""

    index: int
    range: OffsetRange
    schema_version: str

    @property
    def source(self) -> pl.Expr:
        """Topic and partition as reported."""
        return pl.lit(f"{self.range.topic}[{self.range.partition}]")

    @property
    def position(self) -> pl.Expr:
        """A record's offset."""
        return (pl.col(LINE) + self.range.start).cast(pl.String)

    @property
    def record(self) -> pl.Expr:
        """Topic, partition and offset."""
        return pl.format("{}:{}", self.source, self.position)

    def batches(self, types: Mapping[str, SourceType], required: Sequence[str]) -> Iterator[Batch]:
        """The records in the declared types; their `landing_line` counts from the range's start.

        Raises:
            TopicError: the range is not in the topic any more, or the broker does not answer.
        """
        for records in _consumed(self.range):
            yield batch_of(records, self, types, required)


def topic_splits(ranges: Sequence[OffsetRange], schema_version: str, *, parallelism: int) -> list[TopicSplit]:
    """Cut ranges into splits of about the same size, enough for `parallelism` tasks to end at about the same time."""
    # A split a partition would keep two of two processors busy with the first two of three, and one with the third.
    size = max(_LEAST_SPLIT, -(-sum(map(len, ranges)) // (_ROUNDS * parallelism)))
    pieces = [
        OffsetRange(r.topic, r.partition, r.start + len(r) * n // count, r.start + len(r) * (n + 1) // count)
        for r in ranges
        for count in [-(-len(r) // size)]
        for n in range(count)
    ]
    return [TopicSplit(index, piece, schema_version) for index, piece in enumerate(pieces)]


@dataclass(frozen=True)
class Backlog:
    """What is to be read of a topic next, and what there is in all.

    `expected` has the offsets published so far, `lag` the records after them, seen at `seen_at`.
    """

    topic: str
    ranges: tuple[OffsetRange, ...]
    expected: Mapping[int, int]
    lag: int
    seen_at: datetime

    @property
    def records(self) -> int:
        """Records to read next."""
        return sum(map(len, self.ranges))

    @property
    def ends(self) -> bool:
        """Whether that is all there was."""
        return self.records == self.lag

    @property
    def reached(self) -> dict[int, int]:
        """The offsets when these records are published."""
        return {**self.expected, **{each.partition: each.end for each in self.ranges}}


def backlog(connection: Connection, topic: str, limit: int) -> Backlog:
    """What is to be read next: from each partition's published offset on, `limit` records in all at the most.

    Raises:
        StreamingError: the broker does not answer, or there is no such topic.
        TopicError: the topic ends before what has been published of it.
    """
    expected = offsets(connection, topic)
    connection.commit()
    return backlog_after(topic, expected, limit)


def backlog_after(topic: str, expected: Mapping[int, int], limit: int) -> Backlog:
    """What is to be read from the given offsets on; arguments and errors as of `backlog`."""
    seen_at = datetime.now(UTC)
    held = available(client_settings(), topic)
    starts = {number: span.start for number, span in held.items()} | dict(expected)
    ends = {number: span.end for number, span in held.items()}
    cut = [number for number in starts if starts[number] > ends.get(number, 0)]
    if cut:
        raise TopicError(
            f"{topic}[{cut[0]}] ends before the offset published last: it was made anew or cut. "
            "See docs/streaming.md, Lost records."
        )
    lags = {number: ends[number] - start for number, start in starts.items()}
    shares = _shared(lags, limit)
    ranges = tuple(OffsetRange(topic, n, starts[n], starts[n] + share) for n, share in sorted(shares.items()) if share)
    return Backlog(topic, ranges, expected, sum(lags.values()), seen_at)


def _shared(lags: Mapping[int, int], limit: int) -> dict[int, int]:
    """How much of each partition's lag to read, evenly, `limit` in all."""
    shares: dict[int, int] = {}
    for left, number in zip(range(len(lags), 0, -1), sorted(lags, key=lambda n: lags[n]), strict=True):
        shares[number] = min(lags[number], -(-limit // left))
        limit -= shares[number]
    return shares


def _consumed(wanted: OffsetRange) -> Iterator[list[Message]]:
    """The records of a range, some tens of thousands at a time."""
    # Whoever loads the definitions comes by here, and need not wait for a client's library.
    from kafka import TopicPartition
    from kafka.errors import KafkaError, OffsetOutOfRangeError

    partition = TopicPartition(wanted.topic, wanted.partition)
    name = f"{wanted.topic}[{wanted.partition}]"
    try:
        with closing(client_settings().consumer(**_FETCH)) as consumer:
            consumer.assign([partition])
            consumer.seek(partition, wanted.start)
            heard = time.monotonic()
            records: list[Message] = []
            size = 0
            while consumer.position(partition) < wanted.end:
                left = wanted.end - consumer.position(partition)
                fetched = consumer.poll(timeout_ms=500, max_records=min(left, _POLL_RECORDS)).get(partition, [])
                if fetched:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _SILENCE_SECONDS:
                    raise TopicError(f"{name}: the broker gives no records; see that it runs, then try again.")
                records += [record for record in fetched if record.offset < wanted.end]
                size += sum(len(record.value or b"") for record in fetched)
                if len(records) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
                    yield records
                    records, size = [], 0
            if records:
                yield records
    except OffsetOutOfRangeError:
        raise TopicError(
            f"{name}: offset {wanted.start} is gone: deleted by the topic's retention before it was read, or the topic "
            "was made anew. See docs/streaming.md, Lost records."
        ) from None
    except KafkaError as error:
        raise TopicError(f"{name}: cannot be read ({type(error).__name__}); see that the broker runs.") from None


def batch_of(
    records: Sequence[Message], split: TopicSplit, types: Mapping[str, SourceType], required: Sequence[str]
) -> Batch:
    """Records of a split as a batch: one parse for all that can be a record at all."""
    plain = _all_plain(records, split, types, required)
    return _told_apart(records, split, types, required) if plain is None else plain


def _all_plain(
    records: Sequence[Message], split: TopicSplit, types: Mapping[str, SourceType], required: Sequence[str]
) -> Batch | None:
    """The batch where there is nothing to tell apart, as nearly always; None where each record must be looked at."""
    values = [record.value for record in records if record.value is not None]
    headers = [(SCHEMA_HEADER, split.schema_version.encode())]
    if not values or len(values) < len(records) or any(r.headers and r.headers != headers for r in records):
        return None
    text = b"\n".join([*values, b""])
    if line_ends(text) != len(values) or max(map(len, values)) > MAX_MESSAGE_BYTES:
        return None
    raw = parse_lines(text, types, refuse_unknown=True)
    if raw.blank:  # which is no line to pass over here, but a message to refuse
        return None
    offsets = np.fromiter((record.offset for record in records), dtype=np.int64, count=len(records))
    return _placed(raw, pl.Series(LINE, offsets - split.range.start), types, required, len(records))


def _placed(
    raw: Raw, lines: pl.Series, types: Mapping[str, SourceType], required: Sequence[str], records: int
) -> Batch:
    """What was parsed, with the place of each record in its range, which is not its place in the parsed text."""
    rows, mistyped = convert(raw.rows, types, required)
    rows, unread, mistyped = (
        frame.with_columns(lines.gather(frame[LINE]).alias(LINE)) for frame in (rows, raw.rejects, mistyped)
    )
    return Batch(rows, pl.concat([unread, mistyped]), records)


def _told_apart(
    records: Sequence[Message], split: TopicSplit, types: Mapping[str, SourceType], required: Sequence[str]
) -> Batch:
    bad: list[tuple[int, str, bytes]] = []
    lines: list[int] = []
    values: list[bytes] = []
    for record in records:
        line, value = record.offset - split.range.start, record.value or b""
        fault = _fault(record, split.schema_version)
        if fault is None and b"\n" in value:
            fault, value = _on_one_line(value)
        if fault is not None:
            bad.append((line, fault, record.value or b""))
            continue
        lines.append(line)
        values.append(value)
    rejects = rejects_of([b[0] for b in bad], [b[1] for b in bad], [None] * len(bad), [b[2] for b in bad])
    if not values:
        rows, _ = convert(pl.DataFrame(schema={LINE: pl.Int64(), **dict.fromkeys(types, pl.String())}), types, ())
        return Batch(rows, rejects, len(records))
    raw = parse_lines(b"\n".join(values) + b"\n", types, refuse_unknown=True)
    batch = _placed(raw, pl.Series(LINE, lines, dtype=pl.Int64), types, required, len(records))
    return replace(batch, rejects=pl.concat([rejects, batch.rejects]))


def _fault(record: Message, version: str) -> str | None:
    """Why a message cannot be a record, whatever its JSON says."""
    if record.value is None:
        return "no value (a tombstone)"
    if len(record.value) > MAX_MESSAGE_BYTES:
        return f"larger than {MAX_MESSAGE_BYTES} bytes"
    if not record.value.strip():
        return "not valid JSON"
    found = dict(record.headers or ()).get(SCHEMA_HEADER)
    if found is not None and found != version.encode():
        return f"schema version is not {version}"
    return None


def _on_one_line(value: bytes) -> tuple[str | None, bytes]:
    """The same JSON value without line ends, or why it is none."""
    try:
        return None, json.dumps(parse_json(value)).encode()
    except (ValueError, RecursionError):
        return "not valid JSON", value
