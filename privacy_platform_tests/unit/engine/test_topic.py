"""Messages of a topic become rows or rejects, each at its own offset; ranges are cut without a gap."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from privacy_platform.engine.sources import topic
from privacy_platform.engine.sources.batch import LINE, Batch
from privacy_platform.engine.sources.topic import MAX_MESSAGE_BYTES, TopicSplit, batch_of, topic_splits
from privacy_platform.policy.model import SourceType
from privacy_platform.streaming.records import UNREADABLE, Records
from privacy_platform.warehouse.offsets import OffsetRange

TYPES = {"id": SourceType.STRING, "at": SourceType.TIMESTAMP, "size": SourceType.INTEGER}
START = 1000


@dataclass
class Message:
    """A message of a topic."""

    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def good(number: int, **more: object) -> bytes:
    return json.dumps({"id": f"r{number}", "at": "2026-01-02T03:04:05Z", "size": number} | more).encode()


def records_of(messages: Sequence[Message]) -> Records:
    return Records([m.offset for m in messages], [m.value for m in messages], [m.headers for m in messages])


def read(*messages: Message) -> Batch:
    split = TopicSplit(0, OffsetRange("events", 2, START, START + 1_000_000), "1")
    return batch_of(records_of(messages), split, TYPES, ("id",))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value (a tombstone)"),
        (b"", "not valid JSON"),
        (b" \n", "not valid JSON"),
        (b'{"id": "r1"', "not valid JSON"),
        (b'{"id": "r1"}\n{"id": "r2"}', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (good(1, note="x" * MAX_MESSAGE_BYTES), f"larger than {MAX_MESSAGE_BYTES} bytes"),
        (good(1, colour="red"), "unknown field colour"),
        (good(1, size="big"), "size: not a valid integer"),
        (good(1, at="yesterday"), "at: not a valid timestamp"),
        (b'{"at": "2026-01-02T03:04:05Z"}', "id: missing"),
    ],
)
def test_what_is_no_record_is_a_reject_at_its_offset(value: bytes | None, reason: str) -> None:
    batch = read(Message(1005, good(0)), Message(1007, value), Message(1010, good(2)))
    assert batch.lines == 3
    assert batch.rows[LINE].to_list() == [5, 10]
    assert batch.rejects.select(LINE, "error").rows() == [(7, reason)]
    payload = batch.rejects["payload"].item()
    assert payload == (value or b"") or reason.startswith(("at:", "id:"))


def test_another_schema_version_is_a_reject_and_none_is_fine() -> None:
    batch = read(
        Message(1000, good(0)),
        Message(1001, good(1), [("schema_version", b"1")]),
        Message(1002, good(2), [("trace", b"x"), ("schema_version", b"2")]),
    )
    assert batch.rows["id"].to_list() == ["r0", "r1"]
    assert batch.rejects.select(LINE, "error").rows() == [(2, "schema version is not 1")]
    batch = read(Message(1000, good(0)), Message(1001, good(1), UNREADABLE or ()))
    assert batch.rows["id"].to_list() == ["r0"]
    assert batch.rejects.select(LINE, "error").rows() == [(1, "header names are not UTF-8")]


def test_a_record_on_several_lines_is_one_record() -> None:
    batch = read(Message(1000, json.dumps(json.loads(good(1)), indent=2).encode()), Message(1001, good(2)))
    assert batch.rows.select(LINE, "id", "size").rows() == [(0, "r1", 1), (1, "r2", 2)]


def test_nothing_but_rejects() -> None:
    batch = read(Message(1000, None), Message(1001, None))
    assert (batch.lines, batch.rows.height, batch.rejects[LINE].to_list()) == (2, 0, [0, 1])
    assert batch.rows.columns == [*TYPES, LINE]


@given(
    st.lists(
        st.one_of(st.just(good(1)), st.none(), st.binary(max_size=12), st.just(b"{}"), st.just(good(2, x=1))),
        max_size=12,
    )
)
def test_every_message_is_a_row_or_a_reject(values: list[bytes | None]) -> None:
    batch = read(*(Message(START + 3 * number, value) for number, value in enumerate(values)))
    places = sorted([*batch.rows[LINE].to_list(), *batch.rejects[LINE].to_list()])
    assert places == [3 * number for number in range(len(values))]
    assert batch.lines == len(values)


_VALUES = st.one_of(
    st.builds(good, st.integers(0, 9)), st.sampled_from([b"{}", b" ", b"{", good(1, size="big"), good(2, x=1)])
)
_HEADERS = st.sampled_from([(), [("schema_version", b"1")], [("schema_version", b"2")]])


@given(st.lists(st.tuples(_VALUES, _HEADERS), min_size=1, max_size=4))
def test_records_that_look_plain_are_read_as_if_each_was_looked_at(
    parts: list[tuple[bytes, Sequence[tuple[str, bytes]]]],
) -> None:
    messages = [Message(START + 7 * number, value, headers) for number, (value, headers) in enumerate(parts)]
    split = TopicSplit(0, OffsetRange("events", 2, START, START + 1_000_000), "1")
    looked_at = topic._told_apart(records_of(messages), split, TYPES, ("id",))
    batch = read(*messages)
    assert_frame_equal(batch.rows, looked_at.rows)
    assert_frame_equal(batch.rejects, looked_at.rejects)
    assert (batch.lines, batch.blank) == (looked_at.lines, looked_at.blank)


@given(
    st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 90_000)), max_size=5),
    st.integers(min_value=1, max_value=8),
)
def test_splits_cover_the_ranges(spans: list[tuple[int, int]], parallelism: int) -> None:
    ranges = [OffsetRange("t", number, start, start + length) for number, (start, length) in enumerate(spans)]
    splits = topic_splits(ranges, "1", parallelism=parallelism)
    assert [split.index for split in splits] == list(range(len(splits)))
    for whole in ranges:
        pieces = [split.range for split in splits if split.range.partition == whole.partition]
        edges = [(piece.start, piece.end) for piece in pieces]
        assert [start for start, _ in edges[1:]] == [end for _, end in edges[:-1]]
        assert not len(whole) or (edges[0][0], edges[-1][1]) == (whole.start, whole.end)


def test_splits_of_like_partitions_are_equal_and_fill_every_round() -> None:
    ranges = [OffsetRange("t", number, 0, 100_000) for number in range(3)]
    splits = topic_splits(ranges, "1", parallelism=2)
    assert len(splits) % 2 == 0
    assert len({len(split.range) for split in splits}) == 1


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 1000)), st.integers(0, 3000))
def test_a_batch_is_shared_out_evenly_and_fully(lags: dict[int, int], limit: int) -> None:
    shares = topic._shared(lags, limit)
    assert shares.keys() == lags.keys()
    assert all(0 <= shares[number] <= lag for number, lag in lags.items())
    assert sum(shares.values()) == min(limit, sum(lags.values()))
