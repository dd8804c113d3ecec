"""Kill -9 of every part of a stream while it runs, at random moments: nothing is lost, nothing is doubled.

A round is one seed: 60,000 events and some messages that are none are produced while the consumer or its Spark, the
Python workers, PostgreSQL and the broker are killed in an order and at moments drawn from the seed. Five rounds go
into one home, so each builds on what the one before left.
"""

import json
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
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

    def family(self) -> list[psutil.Process]:
        """Its processes, once there is a Spark among them."""

        def found() -> list[psutil.Process]:
            processes = self.keep().family()
            return processes if _named(processes, "java") else []

        return until(found, seconds=180, what="a stream with a Spark")  # type: ignore[no-any-return]

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


def _kill(processes: Iterable[psutil.Process]) -> int:
    killed = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            killed += 1
    return killed


def _kill_consumer(home: Home, stream: Stream) -> int:
    """The driver and all that is of it, at one blow."""
    return _kill(stream.family())


def _kill_spark(home: Home, stream: Stream) -> int:
    return _kill(_named(stream.family(), "java"))


def _kill_workers(home: Home, stream: Stream) -> int:
    """Its Python workers, should there be some soon: it has none between its start and its first batch."""
    for _ in range(120):
        _driver, *others = stream.family()
        if workers := _named(others, "python"):
            return _kill(workers)
        time.sleep(0.5)
    return 0


def _kill_postgres(home: Home, stream: Stream) -> int:
    running = embedded.status(home.path)
    killed = _kill([psutil.Process(running.pid)] if running is not None else [])
    embedded.start(home.path)
    return killed


def _kill_broker(home: Home, stream: Stream) -> int:
    running = broker.status(home.path)
    killed = _kill([psutil.Process(running.pid)] if running is not None else [])
    broker.start(home.path)
    return killed


DEATHS: Mapping[str, Callable[[Home, Stream], int]] = {
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
class Round:
    """What was sent in one round, in its order, and where in the topic it begins."""

    lines: list[str]
    starts: Mapping[int, int]

    def events(self) -> list[str]:
        """The lines that are events."""
        return [line for line in self.lines if _is_event(line)]


def _is_event(line: str) -> bool:
    return '"user_id"' in line


@dataclass
class World:
    """The home, its stream, and who has died."""

    home: Home
    stream: Stream
    deaths: Counter[str] = field(default_factory=Counter)

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

    def publish(self, seed: int, count: int, deaths: Sequence[str] = ()) -> Round:
        """Produce a round while the named parts die; returns when all of it is published."""
        chance = random.Random(seed)
        path = write(self.home.path / "round.jsonl", _mixture(chance, seed, count))
        sent = Round(path.read_text(encoding="utf-8").splitlines(), self.ends())
        with self.home.started("produce", "--rate", str(RATE), "--from", str(path), "--json") as producer:
            until(lambda: self.ends() != sent.starts, seconds=120, every=0.5, what="something produced")
            for who in deaths:
                time.sleep(chance.uniform(0.1, 3.0))
                self.deaths[who] += DEATHS[who](self.home, self.stream) > 0
            assert producer.wait(300) == 0, producer.said()
            account = json.loads(producer.said())
        assert account["acknowledged"] == account["accepted"] == len(sent.lines)
        ends = self.ends()
        until(lambda: self.stream.keep() and self.offsets() == ends, seconds=300, every=0.2, what="all published")
        return sent


def _mixture(chance: random.Random, seed: int, count: int) -> list[Any]:
    """Events out of order over three days, some of them twice, and some lines that are no events."""
    rows = []
    for row in events(SOMEONE, count, start=seed * EVENTS):
        at = FIRST_DAY + timedelta(days=chance.randrange(3), seconds=chance.randrange(3_600))
        rows.append(row | {"timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ")})
    mixed: list[Any] = rows + chance.sample(rows, REPEATED)
    for number in range(BROKEN):
        mixed.insert(chance.randrange(len(mixed)), f'{{"event_id": "broken-{seed}-{number}"')
    return mixed


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


def _published(world: World, table: str, first: int, last: int) -> Counter[str]:
    rows = world.home.rows(f"SELECT event_id FROM {table} WHERE event_id BETWEEN 'evt-{first:08}' AND 'evt-{last:08}'")
    return Counter(name for (name,) in rows)


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


def _by_user(lines: Iterable[str]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for line in lines:
        found[json.loads(line)["user_id"]].append(line)
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_is_killed_every_acknowledged_event_is_published_once(world: World, seed: int) -> None:
    sent = world.publish(seed, EVENTS, _deaths(seed))
    records = read_all(broker.start(world.home.path).client, USER_EVENTS, sent.starts)

    # In the topic once for each time it was acknowledged, and every user's events in the order in which they were sent.
    texts = [record.value.decode() for record in records]
    assert Counter(texts) == Counter(sent.lines)
    assert _by_user(filter(_is_event, texts)) == _by_user(sent.events())

    # In both zones once.
    once = Counter({json.loads(line)["event_id"]: 1 for line in sent.events()})
    assert len(once) == EVENTS
    first = seed * EVENTS
    assert _published(world, "raw.raw_events", first, first + EVENTS - 1) == once
    assert _published(world, "anonymized.anonymized_events", first, first + EVENTS - 1) == once

    # What is no event is in quarantine, once, where it stands in the topic.
    broken = {(f"{USER_EVENTS}[{r.partition}]", str(r.offset)) for r in records if not _is_event(r.value.decode())}
    quarantined = world.home.rows("SELECT source, position FROM raw.quarantine")
    assert len(quarantined) == (seed + 1) * BROKEN
    assert len(broken) == BROKEN
    assert broken <= set(quarantined)

    # Every minute is as if counted from scratch.
    counted = _windows(world)
    assert counted
    _recount(world)
    assert _windows(world) == counted
    assert world.home.staging() == []


def test_all_is_there_each_part_has_died_and_the_last_process_ends_cleanly(world: World) -> None:
    total = WARM_UP + len(SEEDS) * EVENTS
    for table in ("raw.raw_events", "anonymized.anonymized_events"):
        assert world.home.rows(f"SELECT count(*), count(DISTINCT event_id) FROM {table}") == [(total, total)]
    assert set(world.deaths) == set(DEATHS), world.deaths
    assert min(world.deaths.values()) >= 2, world.deaths
    world.stream.stop()
    assert world.home.json("audit", "verify")["ok"]
