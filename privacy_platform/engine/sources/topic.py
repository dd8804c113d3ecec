"""A Kafka topic as a source: ranges of offsets, each read by one task with a consumer of its own.

A message is one record, its value a JSON object like a line of a landing file. What cannot be a record becomes a
reject with its offset: no value (a tombstone), too large, another schema version, a field that the policy does not
know, broken JSON, a wrong type. A range that the broker has deleted meanwhile is an error, never skipped.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl
from psycopg import Connection

from privacy_platform.engine.sources.batch import LINE, Batch, convert, parse_json, rejects_of
from privacy_platform.engine.sources.json_lines import Raw, parse_lines
from privacy_platform.engine.sources.lines import line_ends
from privacy_platform.policy.model import SourceType
from privacy_platform.streaming.cluster import client_settings
from privacy_platform.streaming.records import UNREADABLE, Headers, Records, TopicError, read
from privacy_platform.streaming.topics import available
from privacy_platform.warehouse.offsets import OffsetRange, offsets

MAX_MESSAGE_BYTES = 2**20
SCHEMA_HEADER = "schema_version"
_LEAST_SPLIT, _ROUNDS = 10_000, 3


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
            StreamingError: the settings do not fit the client that reads.
        """
        wanted = self.range
        for records in read(client_settings(), wanted.topic, wanted.partition, wanted.start, wanted.end):
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


def batch_of(records: Records, split: TopicSplit, types: Mapping[str, SourceType], required: Sequence[str]) -> Batch:
    """Records of a split as a batch: one parse for all that can be a record at all."""
    plain = _all_plain(records, split, types, required)
    return _told_apart(records, split, types, required) if plain is None else plain


def _all_plain(
    records: Records, split: TopicSplit, types: Mapping[str, SourceType], required: Sequence[str]
) -> Batch | None:
    """The batch where there is nothing to tell apart, as nearly always; None where each record must be looked at."""
    values = [value for value in records.values if value is not None]
    expected = [(SCHEMA_HEADER, split.schema_version.encode())]
    if not values or len(values) < len(records.values) or any(h and h != expected for h in records.headers):
        return None
    text = b"\n".join([*values, b""])
    if line_ends(text) != len(values) or max(map(len, values)) > MAX_MESSAGE_BYTES:
        return None
    raw = parse_lines(text, types, lines=len(values), refuse_unknown=True)
    if raw.blank:  # which is no line to pass over here, but a message to refuse
        return None
    places = pl.Series(LINE, records.offsets, dtype=pl.Int64) - split.range.start
    return _placed(raw, places, types, required, len(values))


def _placed(
    raw: Raw, lines: pl.Series, types: Mapping[str, SourceType], required: Sequence[str], records: int
) -> Batch:
    """What was parsed, with the place of each record in its range, which is not its place in the parsed text."""
    rows, mistyped = convert(raw.rows, types, required, plain=raw.plain)
    rows, unread, mistyped = (
        frame.with_columns(lines.gather(frame[LINE]).alias(LINE)) for frame in (rows, raw.rejects, mistyped)
    )
    return Batch(rows, pl.concat([unread, mistyped]), records)


def _told_apart(records: Records, split: TopicSplit, types: Mapping[str, SourceType], required: Sequence[str]) -> Batch:
    bad: list[tuple[int, str, bytes]] = []
    lines: list[int] = []
    values: list[bytes] = []
    for offset, value, headers in zip(*records, strict=True):
        line, text = offset - split.range.start, value or b""
        fault = _fault(value, headers, split.schema_version)
        if fault is None and b"\n" in text:
            fault, text = _on_one_line(text)
        if fault is not None:
            bad.append((line, fault, value or b""))
            continue
        lines.append(line)
        values.append(text)
    rejects = rejects_of([b[0] for b in bad], [b[1] for b in bad], [None] * len(bad), [b[2] for b in bad])
    if not values:
        rows, _ = convert(pl.DataFrame(schema={LINE: pl.Int64(), **dict.fromkeys(types, pl.String())}), types, ())
        return Batch(rows, rejects, len(records.values))
    raw = parse_lines(b"\n".join(values) + b"\n", types, lines=len(values), refuse_unknown=True)
    batch = _placed(raw, pl.Series(LINE, lines, dtype=pl.Int64), types, required, len(records.values))
    return replace(batch, rejects=pl.concat([rejects, batch.rejects]))


def _fault(value: bytes | None, headers: Headers, version: str) -> str | None:
    """Why a message cannot be a record, whatever its JSON says."""
    if value is None:
        return "no value (a tombstone)"
    if len(value) > MAX_MESSAGE_BYTES:
        return f"larger than {MAX_MESSAGE_BYTES} bytes"
    if not value.strip():
        return "not valid JSON"
    if headers == UNREADABLE:
        return "header names are not UTF-8"
    found = dict(headers or ()).get(SCHEMA_HEADER)
    if found is not None and found != version.encode():
        return f"schema version is not {version}"
    return None


def _on_one_line(value: bytes) -> tuple[str | None, bytes]:
    """The same JSON value without line ends, or why it is none."""
    try:
        return None, json.dumps(parse_json(value)).encode()
    except (ValueError, RecursionError):
        return "not valid JSON", value
