"""The producer against a real broker: every message accounted for, whatever happens to the broker."""

import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from privacy_platform.streaming import broker
from privacy_platform.streaming.broker import Broker
from privacy_platform.streaming.client import StreamingError
from privacy_platform.streaming.messages import SCHEMA_HEADER, SCHEMA_VERSION, Message, key_of, live
from privacy_platform.streaming.producer import Account, Delivery, produce
from privacy_platform.streaming.topics import available, ensure_topic
from privacy_platform_tests.integration.streaming.support import read_all

PROGRAM = Path(sys.executable).parent / "privacy-platform"


def _numbered(count: int, users: int = 7) -> list[Message]:
    return [
        Message(
            key_of(f"user-{n % users}"), json.dumps({"event_id": f"evt-{n}", "user_id": f"user-{n % users}"}).encode()
        )
        for n in range(count)
    ]


def _chunks(messages: Sequence[Message], size: int = 500) -> Iterator[Sequence[Message]]:
    return (messages[start : start + size] for start in range(0, len(messages), size))


@pytest.fixture(scope="module")
def broker_home(kafka: Broker) -> Iterator[Path]:
    """The home of a broker that may be killed; `kafka` has fetched the jars."""
    home = Path(tempfile.mkdtemp(prefix="pp-"))
    try:
        yield home
    finally:
        broker.stop(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def other(broker_home: Path) -> Broker:
    """That broker, running, whatever the test before did to it."""
    return broker.start(broker_home)


@pytest.fixture
def fragile(other: Broker) -> str:
    """A new topic of that broker."""
    name = f"user-events-{secrets.token_hex(4)}"
    ensure_topic(other.client, name)
    return name


def test_messages_arrive_once_as_they_are_and_in_the_order_of_their_user(kafka: Broker, topic: str) -> None:
    sent = _numbered(5_000)
    waiting: list[int] = []
    account = produce(
        Delivery(kafka.client, topic, in_flight=300),
        _chunks(sent),
        progress=lambda account, lag: waiting.append(account.in_flight),
    )
    assert account == Account(accepted=5_000, acknowledged=5_000)
    assert max(waiting) <= 300
    records = read_all(kafka.client, topic)
    assert {tuple(record.headers) for record in records} == {((SCHEMA_HEADER, SCHEMA_VERSION),)}
    arrived = defaultdict(list)
    for record in records:
        arrived[record.key].append(record.value)
    wanted = defaultdict(list)
    for message in sent:
        wanted[message.key].append(message.value)
    assert arrived == wanted
    assert len({record.partition for record in records}) > 1


def test_a_killed_broker_costs_no_message_and_doubles_none(other: Broker, fragile: str) -> None:
    sent = _numbered(30_000)
    killed: list[int] = []

    def kill_once(account: Account, lag: float) -> None:
        if account.acknowledged > 10_000 and not killed:
            killed.append(account.acknowledged)
            os.kill(other.pid, signal.SIGKILL)
            broker.start(other.home)

    account = produce(Delivery(other.client, fragile, in_flight=2_000), _chunks(sent, 200), progress=kill_once)
    assert killed
    assert account == Account(accepted=30_000, acknowledged=30_000)
    assert Counter(r.value for r in read_all(other.client, fragile)) == Counter(m.value for m in sent)


def test_a_broker_that_was_away_for_too_long_gets_the_same_messages_again(other: Broker, fragile: str) -> None:
    sent = _numbered(2_000)
    delivery = Delivery(other.client, fragile, delivery_timeout_ms=2_000, request_timeout_ms=1_000)
    delivery.send(sent[:1_000])
    os.kill(other.pid, signal.SIGKILL)
    delivery.send(sent[1_000:])
    deadline = time.monotonic() + 60
    while delivery._producer is not None:
        assert time.monotonic() < deadline
        delivery.send([])
        time.sleep(0.05)
    broker.start(other.home)
    account = delivery.finish()
    assert account.resent > 0
    assert account.acknowledged == account.accepted == 2_000
    assert {record.value for record in read_all(other.client, fragile)} == {message.value for message in sent}


def test_what_never_arrived_is_not_called_acknowledged(other: Broker, fragile: str) -> None:
    delivery = Delivery(other.client, fragile)
    delivery.send(_numbered(100))
    while delivery.account.in_flight:
        delivery.send([])
    broker.stop(other.home)
    delivery.send(_numbered(200))
    assert delivery.finish(seconds=1) == Account(accepted=300, acknowledged=100, undelivered=200)


def test_a_message_too_large_is_refused_and_the_others_arrive(kafka: Broker, topic: str) -> None:
    large = Message(key_of("user-1"), b'{"page_url": "' + b"x" * 5_000_000 + b'"}')
    account = produce(Delivery(kafka.client, topic), [[*_numbered(10), large, *_numbered(10)]])
    assert account == Account(accepted=21, acknowledged=20, refused=1)
    assert len(read_all(kafka.client, topic)) == 20


def test_a_topic_that_does_not_exist_ends_it(kafka: Broker) -> None:
    delivery = Delivery(kafka.client, "nowhere", max_block_ms=500)
    with pytest.raises(StreamingError, match="nowhere"):
        produce(delivery, [_numbered(3)])
    assert delivery.account == Account(accepted=1, undelivered=1)


def test_no_log_tells_a_message_or_a_key(kafka: Broker, topic: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        produce(Delivery(kafka.client, topic), [_numbered(50)])
        read_all(kafka.client, topic)
    key = key_of("user-1")
    for text in ("user-1", "evt-1", repr(key)[2:-1], key.hex()):
        assert text not in caplog.text


def test_a_rate_is_kept(kafka: Broker, topic: str) -> None:
    began = time.monotonic()
    account = produce(Delivery(kafka.client, topic), _chunks(_numbered(400), 20), rate=200)
    assert account.acknowledged == 400
    assert time.monotonic() - began >= 1.9  # 380 of them wait for their time: a lower bound holds on any machine.


def test_live_events_are_of_the_users_that_generate_makes(kafka: Broker, topic: str) -> None:
    produce(Delivery(kafka.client, topic), islice(live(50, 100, seed=3), 4))
    events = [json.loads(record.value) for record in read_all(kafka.client, topic)]
    assert len({event["event_id"] for event in events}) == 400
    assert {event["user_id"] for event in events} <= {f"user_{n:06}" for n in range(1, 51)}


def test_the_command_ends_cleanly_by_sigterm(kafka: Broker, topic: str) -> None:
    process = subprocess.Popen(
        [PROGRAM, "produce", "--rate", "max", "--topic", topic, "--users", "100", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while sum(r.messages for r in available(kafka.client, topic).values()) < 2_000:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    said = json.loads(output)
    assert said["acknowledged"] == said["accepted"] == len(read_all(kafka.client, topic))


def test_the_command_sends_a_file_as_it_is(kafka: Broker, topic: str, tmp_path: Path) -> None:
    lines = ['{"user_id": "user-1", "event_id": "a"}', "not JSON", '{"user_id": 7}', '["user_id"]', '{"event_id": "ü"}']
    (tmp_path / "events.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run(
        [PROGRAM, "produce", "--rate", "max", "--from", str(tmp_path / "events.jsonl"), "--topic", topic],
        check=True,
        capture_output=True,
        timeout=120,
    )
    records = read_all(kafka.client, topic)
    assert sorted(record.value.decode() for record in records) == sorted(lines)
    assert {record.key for record in records} == {key_of("user-1"), None}


def test_the_command_says_what_is_wrong(kafka: Broker, topic: str) -> None:
    words = {"0": "--rate", "1": "cannot be read"}
    for rate, message in words.items():
        done = subprocess.run(
            [PROGRAM, "produce", "--rate", rate, "--topic", topic, "--from", "/nowhere.jsonl"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1
        assert message in done.stderr
