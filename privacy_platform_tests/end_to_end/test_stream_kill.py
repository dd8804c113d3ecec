"""Kill -9 of every part of a stream while it runs, at random moments: nothing is lost, nothing is doubled.

A round is one seed: 60,000 events and some messages that are none are produced while the consumer or its Spark, the
Python workers, PostgreSQL and the broker are killed in an order and at moments drawn from the seed. Five rounds go
into one home, so each builds on what the one before left.
"""

import json
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest

from privacy_platform.streaming import broker
from privacy_platform.streaming.topics import USER_EVENTS, available, ensure_topic
from privacy_platform.warehouse import embedded
from privacy_platform_tests.end_to_end.homes import Home, Started, until
from privacy_platform_tests.end_to_end.people import FIRST_DAY, events, people, write
from privacy_platform_tests.integration.streaming.support import read_all

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SEEDS = (1, 2, 3, 4, 5)
EVENTS = 60_000
WARM_UP = 600
REPEATED = 300
BROKEN = 30
RATE = 8_000
BATCH = 15_000
SOMEONE = people(60)


@dataclass
class Stream:
    """`privacy-platform stream`, started anew whenever it is gone."""

    home: Home
    stack: ExitStack
    process: Started | None = None
    starts: int = 0

    def keep(self) -> Started:
        if self.process is None or self.process.process.poll() is not None:
            self.process = self.stack.enter_context(self.home.started("stream", "--limit", str(BATCH), "--json"))
            self.starts += 1
        return self.process

    def at_work(self) -> list[psutil.Process]:
        """Its processes, once its Spark has Python workers, as it has from its first batch on."""

        def family() -> list[psutil.Process]:
            found = self.keep().family()
            return found if _named(found, "java") and len(_named(found, "python")) > 1 else []

        return until(family, seconds=180, what="stream at work")  # type: ignore[no-any-return]

    def stop(self) -> None:
        process = self.keep()
        process.process.send_signal(signal.SIGTERM)
        assert process.wait() == 0, process.said()


def _named(processes: list[psutil.Process], name: str) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if name in process.name() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _kill_consumer(home: Home, stream: Stream) -> None:
    stream.at_work()
    assert stream.process is not None
    stream.process.kill()  # The driver and all that is of it, at one blow.
    stream.keep()


def _kill_spark(home: Home, stream: Stream) -> None:
    _kill(_named(stream.at_work(), "java"))


def _kill_workers(home: Home, stream: Stream) -> None:
    family = stream.at_work()
    _kill([process for process in _named(family, "python") if process.pid != family[0].pid])


def _kill_postgres(home: Home, stream: Stream) -> None:
    running = embedded.status(home.path)
    if running is not None:
        os.kill(running.pid, signal.SIGKILL)
    embedded.start(home.path)


def _kill_broker(home: Home, stream: Stream) -> None:
    running = broker.status(home.path)
    if running is not None:
        os.kill(running.pid, signal.SIGKILL)
    broker.start(home.path)


DEATHS: Mapping[str, Callable[[Home, Stream], None]] = {
    "consumer": _kill_consumer,
    "Spark": _kill_spark,
    "workers": _kill_workers,
    "PostgreSQL": _kill_postgres,
    "broker": _kill_broker,
}


def _deaths(seed: int) -> list[str]:
    """Who dies in this round, in which order: a start of Spark takes long, so one of two dies by turns."""
    who = ["workers", "PostgreSQL", "broker", "consumer" if seed % 2 else "Spark"]
    random.Random(seed).shuffle(who)
    return who


@dataclass
class World:
    """The home, and what was sent: the lines of each round's file in their order."""

    home: Home
    stream: Stream
    sent: list[str] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)

    def write(self, seed: int, count: int = EVENTS) -> Path:
        """A round's file: out of order over three days, some events twice, some lines that are no events."""
        chance = random.Random(seed)
        rows = []
        for row in events(SOMEONE, count, start=seed * EVENTS):
            at = FIRST_DAY + timedelta(days=chance.randrange(3), seconds=chance.randrange(3_600))
            rows.append(row | {"timestamp": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")})
        mixed: list[Any] = rows + chance.sample(rows, REPEATED)
        for number in range(BROKEN):
            mixed.insert(chance.randrange(len(mixed)), f'{{"event_id": "broken-{seed}-{number}"')
        path = write(self.home.path / f"round-{seed}.jsonl", mixed)
        self.sent += path.read_text(encoding="utf-8").splitlines()
        return path

    def offsets(self) -> dict[int, int] | None:
        """How far the topic is published; None while PostgreSQL is away."""
        with suppress(psycopg.OperationalError):
            rows = self.home.rows(
                f"SELECT partition, next_offset FROM governance.stream_offsets WHERE topic = '{USER_EVENTS}'"
            )
            return {int(partition): int(offset) for partition, offset in rows}
        return None

    def ends(self) -> dict[int, int]:
        running = broker.start(self.home.path)
        return {number: offsets.end for number, offsets in available(running.client, USER_EVENTS).items()}

    def publish(self, seed: int, count: int, deaths: Sequence[str] = ()) -> None:
        """Produce a round's file while the named parts die; returns when all of it is published."""
        chance = random.Random(seed)
        path = self.write(seed, count)
        with self.home.started("produce", "--rate", str(RATE), "--from", str(path), "--json") as producer:
            for who in deaths:
                time.sleep(chance.uniform(0.1, 3.0))
                DEATHS[who](self.home, self.stream)
                self.deaths.append(who)
            assert producer.wait(300) == 0, producer.said()
            account = json.loads(producer.said())
        assert account["acknowledged"] == account["accepted"] == count + REPEATED + BROKEN
        ends = self.ends()
        until(lambda: self.stream.keep() and self.offsets() == ends, seconds=240, every=0.2, what="all published")


@pytest.fixture(scope="module")
def world(homes: Callable[..., Home], spark: "SparkSession") -> Iterator[World]:
    home = homes()
    write(home.landing / "users.jsonl", SOMEONE)
    home.materialize("raw_users,anonymized_users")
    ensure_topic(broker.start(home.path).client)
    with ExitStack() as stack:
        made = World(home, Stream(home, stack))
        made.stream.keep()
        made.publish(0, WARM_UP)
        yield made


def _identities(world: World, table: str) -> Counter[str]:
    return Counter(name for (name,) in world.home.rows(f"SELECT event_id FROM {table}"))


def _windows(world: World) -> list[tuple[Any, ...]]:
    return sorted(
        world.home.rows(
            "SELECT window_start, event_type, device_type, events, unique_users, is_final FROM analytics.event_windows"
        )
    )


def _recount(world: World) -> None:
    """Count all windows from scratch, by the query that counts the touched ones."""
    from privacy_platform.engine.gate import Run
    from privacy_platform.engine.release_windows import release_windows
    from privacy_platform.policy.load import load_policies

    with world.home.entered():
        policies = load_policies()
        release_windows(policies.aggregates["event_windows"], policies, Run("recount"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_is_killed_every_acknowledged_event_is_published_once(world: World, seed: int) -> None:
    world.publish(seed, EVENTS, _deaths(seed))
    records = read_all(broker.start(world.home.path).client, USER_EVENTS)

    # Acknowledged once each, and every user's events in the order in which they were sent.
    assert Counter(record.value.decode() for record in records) == Counter(world.sent)
    arrived, wanted = defaultdict(list), defaultdict(list)
    for record in records:
        if b'"user_id"' in record.value:
            arrived[json.loads(record.value)["user_id"]].append(record.value.decode())
    for line in world.sent:
        if '"user_id"' in line:
            wanted[json.loads(line)["user_id"]].append(line)
    assert arrived == wanted

    # In both zones exactly once, and nothing else.
    once = Counter({json.loads(line)["event_id"]: 1 for line in world.sent if '"user_id"' in line})
    assert len(once) == WARM_UP + seed * EVENTS
    assert _identities(world, "raw.raw_events") == once
    assert _identities(world, "anonymized.anonymized_events") == once

    # What is no event is in quarantine, once, where it stood in the topic.
    broken = {(f"{USER_EVENTS}/{r.partition}", str(r.offset)) for r in records if b'"user_id"' not in r.value}
    quarantined = world.home.rows("SELECT source, position FROM raw.quarantine")
    assert len(quarantined) == len(broken) == (seed + 1) * BROKEN
    assert set(quarantined) == broken

    # Every minute is as if counted from scratch, and its events add up.
    counted = _windows(world)
    assert counted
    _recount(world)
    assert _windows(world) == counted
    assert world.home.staging() == []


def test_each_part_died_and_the_last_process_ends_cleanly(world: World) -> None:
    assert set(world.deaths) == set(DEATHS)
    assert min(Counter(world.deaths).values()) >= 2
    world.stream.stop()
    assert world.home.json("audit", "verify")["ok"]
