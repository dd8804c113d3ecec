"""Events as messages: live ones, and the lines of a file."""

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest

from privacy_platform.streaming.client import StreamingError
from privacy_platform.streaming.messages import Message, key_of, lines, live


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_every_line_of_a_file_comes_once_whatever_the_size_of_a_chunk(tmp_path: Path, name: str) -> None:
    rows = [json.dumps({"user_id": f"user-{n}"}).encode() for n in range(23)]
    text = b"\n".join(rows[:10]) + b"\n\n  \n" + b"\r\n".join(rows[10:])
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    wanted = [Message(key_of(f"user-{n}"), row) for n, row in enumerate(rows)]
    for chunk in (1, 5, 23, 100):
        parts = list(lines(tmp_path / name, chunk))
        assert [message for part in parts for message in part] == wanted
        assert max(map(len, parts)) == min(chunk, 23)


@pytest.mark.parametrize("line", [b"{", b"[]", b"7", b"\xff", b'{"user_id": null}', b"[" * 100_000])
def test_what_names_no_user_has_no_key_and_is_sent_as_it_is(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "events.jsonl").write_bytes(line + b"\n")
    assert list(lines(tmp_path / "events.jsonl", 10)) == [[Message(None, line)]]


@pytest.mark.parametrize("content", [None, b"not gzip"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "events.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StreamingError, match=r"events\.jsonl\.gz cannot be read"):
        list(lines(path, 10))


def test_live_events_differ_from_run_to_run_unless_seeded() -> None:
    def ids(seed: int | None) -> list[str]:
        return [json.loads(m.value)["event_id"] for chunk in islice(live(50, 100, seed=seed), 3) for m in chunk]

    assert len(set(ids(1))) == 300
    assert ids(1) == ids(1)
    assert not set(ids(None)) & set(ids(None))


def test_a_live_event_is_of_its_key_s_user_and_of_now() -> None:
    [chunk] = islice(live(50, 100), 1)
    rows = [json.loads(message.value) for message in chunk]
    assert [message.key for message in chunk] == [key_of(row["user_id"]) for row in rows]
    assert len({row["timestamp"] for row in rows}) == 1
    assert {row["user_id"] for row in rows} <= {f"user_{n:06}" for n in range(1, 51)}


def test_events_need_somebody() -> None:
    with pytest.raises(StreamingError, match="1 or more"):
        next(live(0, 10))
