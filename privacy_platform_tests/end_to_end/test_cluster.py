"""The whole pipeline on a real Spark cluster, by configuration alone, with workers that die: as on one machine.

One story for all tests: three landings, each materialized on the cluster and, for comparison, in local mode.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest

from privacy_platform.vault.keyring import KEYRING_VARIABLE, new_keyring
from privacy_platform.warehouse import embedded
from privacy_platform.warehouse.connection import URL_VARIABLE, Role
from privacy_platform_tests.end_to_end.clusters import Cluster, Daemon, postgres_by_tcp
from privacy_platform_tests.end_to_end.homes import ROOT, Home, until
from privacy_platform_tests.end_to_end.people import events, people, write
from privacy_platform_tests.end_to_end.test_dirty_data import policy_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EXACT = ("user_cohorts", "daily_event_metrics")
PRIVATE = "product_metrics"
TABLES = (
    "raw.raw_users",
    "raw.raw_events",
    "anonymized.anonymized_users",
    "anonymized.anonymized_events",
    *(f"analytics.{name}" for name in EXACT),
    "analytics.event_windows",
)
VOLATILE = {"anonymized_at", "landed_at", "landing_order", "first_name_hash", "last_name_hash", "sealed", "updated_at"}
# Starting a driver or an executor is work for a processor, and others may use it.
PATIENCE = 240.0
pytestmark = pytest.mark.timeout(600)
MASTER = "PRIVACY_PLATFORM_SPARK_MASTER"
# Attempts beside attempts, as soon as a task takes longer than others.
SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "50ms",
    "spark.speculation.multiplier": "1",
    "spark.speculation.quantile": "0.1",
}
# Tasks of these stages stop between copy and commit until the test lets them go on.
HELD = {"raw_users": 1, "raw_events": 2, "anonymized_users": 3}


def land(folder: Path, number: int) -> None:
    """Files of one landing: two of each kind, so that both executors have one; later ones change and add."""
    someone = people(60)
    joined = people(30, start=60 + 30 * number)
    for half in range(2):
        rows = someone[half * 30 : (half + 1) * 30] if number == 0 else joined[half * 15 : (half + 1) * 15]
        changed = [row | {"lifetime_value": 0.25 * number} for row in someone[half * 30 : half * 30 + 6]]
        write(folder / f"users-{number}-{half}.jsonl", [*rows, *(changed if number else ())])
        first = 1_000 * number + 300 * half
        write(folder / f"events-{number}-{half}.jsonl", events(someone, 300, start=first))


def content(home: Home, table: str) -> list[tuple[Any, ...]]:
    columns = [
        column
        for (column,) in home.rows(
            f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        if column not in VOLATILE
    ]
    return sorted(home.rows(f"SELECT {', '.join(columns)} FROM {table}"), key=repr)


@contextmanager
def held(home: Home) -> Iterator[psycopg.Connection]:
    """Stop tasks of the stages in HELD before they commit, until their lock is let go."""
    with home.connect() as holder:
        numbers = " ".join(f"WHEN NEW.stage LIKE '{name}\\_%' THEN {key}" for name, key in HELD.items())
        holder.execute(
            f"""
            CREATE FUNCTION staging.hold() RETURNS trigger LANGUAGE plpgsql AS $$
            DECLARE key int := CASE {numbers} END;
            BEGIN
                IF key IS NOT NULL AND NOT (key = 1 AND NEW.split = 0) THEN
                    PERFORM pg_advisory_xact_lock_shared(key);
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER hold BEFORE UPDATE ON staging.commits FOR EACH ROW EXECUTE FUNCTION staging.hold();
            """.encode()
        )
        for key in HELD.values():
            holder.execute("SELECT pg_advisory_lock(%s)", [key])
        yield holder


def waiting(home: Home, stage: str) -> list[int]:
    """The clients' ports of the tasks that are held."""
    rows = home.rows(
        "SELECT client_port FROM pg_stat_activity a JOIN pg_locks l USING (pid) "
        f"WHERE l.locktype = 'advisory' AND NOT l.granted AND l.objid = {HELD[stage]}"
    )
    return [int(port) for (port,) in rows]


def waiting_for_another_attempt(home: Home) -> int:
    return int(
        home.value(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid' "
            "AND query LIKE 'INSERT INTO staging.commits%'"
        )
    )


def runs_on(worker: Daemon, port: int) -> bool:
    """Whether a connection from this port is one of the worker's processes."""
    for process in worker.family():
        try:
            if any(each.laddr.port == port for each in process.net_connections("tcp")):
                return True
        except psutil.Error:
            continue
    return False


@dataclass
class Story:
    """What happened."""

    cluster: Home
    local: Home
    folder: Path
    results: list[dict[str, Any]] = field(default_factory=list)
    contents: list[dict[str, tuple[list[Any], list[Any]]]] = field(default_factory=list)
    speculative: int = 0
    killed: list[str] = field(default_factory=list)
    logs: str = ""

    def look(self) -> None:
        """Take down what both warehouses hold."""
        self.contents.append({table: (content(self.cluster, table), content(self.local, table)) for table in TABLES})


@contextmanager
def driver(home: Home, *words: str) -> "Iterator[subprocess.Popen[str]]":
    """A driver in a process of its own; gone, with its JVM, after the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "privacy_platform_tests.end_to_end.cluster_driver", *words],
        env=home.environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def ended(process: "subprocess.Popen[str]") -> dict[str, Any]:
    said, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, complaints
    found: dict[str, Any] = json.loads(said) | {"complaints": complaints}
    return found


def machine(cluster: Cluster, name: str, base: Path, home: Home, keyring: str, *, by_file: bool) -> Daemon:
    """A worker with a home of its own; it knows the keyring and the warehouse in one of the documented ways."""
    own = base / f"home-{name}"
    given = {"PRIVACY_PLATFORM_HOME": str(own), f"{URL_VARIABLE}_PIPELINE": home.url(Role.PIPELINE)}
    if by_file:
        (own / "secrets").mkdir(parents=True, mode=0o700)
        (own / "secrets" / "keyring.json").touch(mode=0o600)
        (own / "secrets" / "keyring.json").write_text(keyring)
        return cluster.worker(name, given)
    return cluster.worker(name, given | {KEYRING_VARIABLE: keyring})


def lose(worker: Daemon, folder: Path) -> None:
    """Lose a machine: its processes, and what is on its disks."""
    worker.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def story(
    homes: Callable[..., Home], spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    base = tmp_path_factory.mktemp("cluster")
    policies = str(policy_folder(base / "policies", {name: {"mode": "exact_with_minimum"} for name in EXACT}))
    landing = base / "landing"
    landing.mkdir()
    keyring = new_keyring().model_dump_json()
    server = homes()
    url = postgres_by_tcp(server.path)
    (base / "spark").mkdir()
    cluster = Cluster(base / "spark", SPECULATION)
    try:
        shared = {"PRIVACY_PLATFORM_POLICIES": policies, "PRIVACY_PLATFORM_LANDING": str(landing)}
        local = homes(**shared, **{KEYRING_VARIABLE: keyring})
        far = homes(**shared, **{KEYRING_VARIABLE: keyring, URL_VARIABLE: url, MASTER: cluster.master}, **cluster.client())
        yield told(Story(far, local, base), cluster, keyring, landing)
    finally:
        cluster.stop()
        embedded.stop(server.path)


def told(story: Story, cluster: Cluster, keyring: str, landing: Path) -> Story:
    home, base = story.cluster, story.folder
    T = time.monotonic()
    def say(*a): print(f"{time.monotonic()-T:6.1f}", *a, file=sys.__stderr__, flush=True)
    # Not the keyring in use: a worker that looked into the driver's home would be found out.
    (home.path / "secrets").mkdir(mode=0o700)
    (home.path / "secrets" / "keyring.json").touch(mode=0o600)
    (home.path / "secrets" / "keyring.json").write_text(new_keyring().model_dump_json())
    home.run("doctor", code=None)
    say("doctor")
    workers = {
        "one": machine(cluster, "one", base, home, keyring, by_file=False),
        "two": machine(cluster, "two", base, home, keyring, by_file=True),
    }
    land(landing, 0)
    with held(home) as holder, driver(home) as process:

        def let_go(stage: str) -> None:
            holder.execute("SELECT pg_advisory_unlock(%s)", [HELD[stage]])

        def come(condition: Callable[[], Any], what: str) -> Any:
            return until(lambda: condition() or process.poll() is not None, seconds=PATIENCE, what=what)

        say("started")
        come(lambda: len(waiting(home, "raw_events")) == 2, "two tasks")
        say("events held")
        lose(workers.pop("one"), base / "spark" / "one")
        story.killed.append("one")
        workers["three"] = machine(cluster, "three", base, home, keyring, by_file=False)
        let_go("raw_events")
        come(lambda: waiting_for_another_attempt(home), "a speculative attempt")
        story.speculative = waiting_for_another_attempt(home)
        say("speculative", story.speculative)
        let_go("raw_users")
        [port] = come(lambda: waiting(home, "anonymized_users"), "the copy of the anonymized users")
        name = next(name for name, worker in workers.items() if runs_on(worker, port))
        say("copy on", name)
        lose(workers.pop(name), base / "spark" / name)
        story.killed.append(name)
        let_go("anonymized_users")
        workers["four"] = machine(cluster, "four", base, home, keyring, by_file=True)
        story.results.append(ended(process))
        say("ended")
    assert story.local.materialize("*").succeeded
    say("local")
    story.look()
    connect, address = cluster.connect_server()
    home.extra |= {MASTER: address}
    land(landing, 1)
    assert story.local.materialize("*").succeeded
    say("local")
    connect.says("Spark Connect server started")
    say("connect")
    with driver(home, "--look") as process:
        story.results.append(ended(process))
    say("ended")
    story.look()
    story.logs = "".join(daemon.said() for daemon in cluster.daemons)
    return story


@pytest.mark.parametrize("landing", range(2))
def test_x(story: Story, landing: int) -> None:
    assert story.results[landing]["run"]["succeeded"], story.results[landing]
    for table in TABLES:
        there, here = story.contents[landing][table]
        assert there == here, table
        assert there, table
    print(story.results)
