"""Ranges of offsets as librdkafka reads them: whole, also where an offset has no record, or refused with a reason."""

import time
from collections.abc import Sequence

import pytest

from privacy_platform.streaming import records
from privacy_platform.streaming.broker import Broker
from privacy_platform.streaming.client import ClientSettings, StreamingError
from privacy_platform.streaming.records import Records, TopicError, read
from privacy_platform.streaming.topics import available


def send(kafka: Broker, topic: str, values: Sequence[bytes | None], *, transactional: bool = False) -> None:
    options = {"transactional_id": f"test-{topic}"} if transactional else {}
    producer = kafka.client.producer(max_request_size=8 * 2**20, **options)
    try:
        if transactional:
            producer.init_transactions()
            producer.begin_transaction()
        for number, value in enumerate(values):
            producer.send(topic, key=b"k", value=value, partition=1, headers=[("number", str(number).encode())])
        producer.flush()
        if transactional:
            producer.commit_transaction()
    finally:
        producer.close()


def taken(parts: Sequence[Records]) -> Records:
    return Records(*([each for part in parts for each in part[column]] for column in range(3)))


def test_a_range_is_read_whole_and_no_further(kafka: Broker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    send(kafka, topic, [b"x" * number for number in range(500)])
    monkeypatch.setattr(records, "BATCH_RECORDS", 100)
    for most in ("_POLL_RECORDS", "_FIRST_POLL"):
        monkeypatch.setattr(records, most, 70)
    parts = list(read(kafka.client, topic, 1, 20, 480))
    assert len(parts) > 1
    assert max(len(part.offsets) for part in parts) <= 170
    found = taken(parts)
    assert list(found.offsets) == list(range(20, 480))
    assert list(found.values) == [b"x" * number for number in range(20, 480)]
    assert list(found.headers) == [[("number", str(number).encode())] for number in range(20, 480)]
    assert list(read(kafka.client, topic, 1, 7, 7)) == []


def test_nothing_empty_and_large_messages_are_told_apart(kafka: Broker, topic: str) -> None:
    send(kafka, topic, [None, b"", b"x" * 5_000_000, b"y"])
    assert list(taken(list(read(kafka.client, topic, 1, 0, 4))).values) == [None, b"", b"x" * 5_000_000, b"y"]


def test_a_poll_asks_for_no_more_than_is_held_at_once(
    kafka: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(kafka, topic, [b"x" * 50_000] * 40)
    monkeypatch.setattr(records, "BATCH_BYTES", 200_000)
    monkeypatch.setattr(records, "_POLL_BYTES", 100_000)
    monkeypatch.setattr(records, "_FIRST_POLL", 2)
    parts = list(read(kafka.client, topic, 1, 0, 40))
    assert list(taken(parts).offsets) == list(range(40))
    assert max(len(part.offsets) for part in parts) <= 5


class Odd(str):
    """A name that reaches the broker as no text."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


def test_a_header_that_is_no_text_stops_nothing(kafka: Broker, topic: str) -> None:
    producer = kafka.client.producer()
    try:
        # As many before it as the interpreter needs to become quick about it.
        for headers in [[("fine", b"\xff")]] * 200 + [[("fine", b"1"), (Odd("odd"), b"2")], [(Odd("odd"), b"2")], []]:
            producer.send(topic, value=b"x", partition=1, headers=headers)
        producer.flush()
    finally:
        producer.close()
    found = taken(list(read(kafka.client, topic, 1, 0, 203)))
    assert [headers is records.UNREADABLE for headers in found.headers] == [False] * 200 + [True, True, False]
    assert list(found.headers[:200]) == [[("fine", b"\xff")]] * 200
    assert list(found.values) == [b"x"] * 203


def test_offsets_without_a_record_are_passed_over(kafka: Broker, topic: str) -> None:
    send(kafka, topic, [b"a", b"b"], transactional=True)  # the end of a transaction takes an offset
    assert available(kafka.client, topic)[1].end == 3
    began = time.monotonic()
    assert list(taken(list(read(kafka.client, topic, 1, 0, 3))).offsets) == [0, 1]
    send(kafka, topic, [b"c"])
    assert list(taken(list(read(kafka.client, topic, 1, 0, 4))).offsets) == [0, 1, 3]
    assert list(read(kafka.client, topic, 1, 2, 3)) == []
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("servers", "password", "words"),
    [(None, "not-this-one", "_AUTHENTICATION"), ("127.0.0.1:1", "not-this-one", "silent")],
)
def test_what_cannot_be_read_is_said_and_no_secret_with_it(
    kafka: Broker,
    topic: str,
    servers: str | None,
    password: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(records, "_SILENCE_SECONDS", 2.0)
    security = {**kafka.client.security, "sasl_plain_password": password}
    cluster = ClientSettings(servers or kafka.client.bootstrap_servers, security)
    with pytest.raises(TopicError, match=rf"{topic}\[1\]: .*{words}") as caught:
        list(read(cluster, topic, 1, 0, 1))
    assert password not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_settings_that_the_library_does_not_take_are_said() -> None:
    cluster = ClientSettings("127.0.0.1:1", {"security_protocol": "SASL_SSL", "sasl_mechanism": "NONE-SUCH"})
    with pytest.raises(StreamingError, match="do the settings"):
        list(read(cluster, "t", 0, 0, 1))
