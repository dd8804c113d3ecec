"""The whole pipeline on a real Spark cluster, by configuration alone, with machines that are lost: as on one machine.

One story for all tests: two landings, each materialized on the cluster and, for comparison, in local mode.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
PATIENCE = 600.0
pytestmark = pytest.mark.timeout(1800)
# Smaller files would be read together, by one task.
ALONE = 5 * 2**20
MARK = "maria@example.org"
MASTER = "PRIVACY_PLATFORM_SPARK_MASTER"
# As for a Spark Connect server; and attempts beside attempts, as soon as a task takes longer than others.
SETTINGS = {
    "spark.executorEnv.POLARS_MAX_THREADS": "1",
    "spark.speculation": "true",
    "spark.speculation.interval": "50ms",
    "spark.speculation.multiplier": "1",
    "spark.speculation.quantile": "0.1",
}
# Tasks of these stages stop between copy and commit until the test lets them go on.
HELD = {"raw_users": 1, "raw_events": 2, "anonymized_users": 3}


def land(folder: Path, number: int) -> None:
    """Files of one landing, two of each kind, so that each executor has one; the second landing changes and adds."""
    someone = people(60)
    joined = people(30, start=60 + 30 * number)
    for half in range(2):
        rows = someone[half * 30 : (half + 1) * 30] if number == 0 else joined[half * 15 : (half + 1) * 15]
        changed = [row | {"lifetime_value": 0.25 * number} for row in someone[half * 30 : half * 30 + 6]]
        first = 1_000 * number + 300 * half
        written = {"users": [*rows, *(changed if number else ())], "events": events(someone, 300, start=first)}
        for name, lines in written.items():
            path = write(folder / f"{name}-{number}-{half}.jsonl", lines)
            path.write_text(path.read_text().replace("{", "{" + " " * ALONE, 1))


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
            "AND query LIKE '%INSERT INTO staging.commits%'"
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
    """What happened: what the drivers printed, and what stood in both warehouses after each landing."""

    cluster: Home
    local: Home
    folder: Path
    results: list[dict[str, Any]] = field(default_factory=list)
    contents: list[dict[str, tuple[list[Any], list[Any]]]] = field(default_factory=list)
    speculative: int = 0
    lost: list[str] = field(default_factory=list)

    def look(self) -> None:
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


def machine(story: Story, cluster: Cluster, name: str, keyring: str, *, by_files: bool) -> Daemon:
    """A worker with a home of its own; it knows keyring and warehouse in one of the documented ways."""
    own, url = story.folder / f"home-{name}", story.cluster.url(Role.PIPELINE)
    given = {"PRIVACY_PLATFORM_HOME": str(own), f"{URL_VARIABLE}_PIPELINE": url}
    if not by_files:
        return cluster.worker(name, given | {KEYRING_VARIABLE: keyring})
    secret(own / "secrets" / "keyring.json", keyring)
    parts = urlsplit(url)
    at = f"{parts.hostname}:{parts.port}{parts.path}"
    passwords = secret(own / "secrets" / "pgpass", f"{at.replace('/', ':')}:{parts.username}:{parts.password}\n")
    given[f"{URL_VARIABLE}_PIPELINE"] = f"postgresql://{parts.username}@{at}?passfile={passwords}"
    return cluster.worker(name, given)


def secret(path: Path, text: str) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def lose(worker: Daemon, folder: Path) -> None:
    """Lose a machine: its processes, and what is on its disks."""
    worker.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def story(
    homes: Callable[..., Home], spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    base = tmp_path_factory.mktemp("cluster")
    policies = policy_folder(base / "policies", {name: {"mode": "exact_with_minimum"} for name in EXACT})
    keyring = new_keyring().model_dump_json()
    for name in ("landing", "spark"):
        (base / name).mkdir()
    server = homes()
    url = postgres_by_tcp(server.path)
    cluster = Cluster(base / "spark", SETTINGS)
    shared = {
        "PRIVACY_PLATFORM_POLICIES": str(policies),
        "PRIVACY_PLATFORM_LANDING": str(base / "landing"),
    }
    try:
        local = homes(**shared)
        # The session of the test run was started without the variable, and so were its workers.
        secret(local.path / "secrets" / "keyring.json", keyring)
        given = {KEYRING_VARIABLE: keyring, URL_VARIABLE: url, MASTER: cluster.master}
        far = homes(**shared, **given, **cluster.client())
        yield told(Story(far, local, base), cluster, keyring)
    finally:
        cluster.stop()
        embedded.stop(server.path)


def told(story: Story, cluster: Cluster, keyring: str) -> Story:
    """Two landings: one while machines are lost, one through Spark Connect."""
    home, landing = story.cluster, story.folder / "landing"
    # Not the keyring in use: a worker that looked into the driver's home would be found out.
    secret(home.path / "secrets" / "keyring.json", new_keyring().model_dump_json())
    home.run("doctor", code=None, timeout=PATIENCE)
    workers = {
        "one": machine(story, cluster, "one", keyring, by_files=False),
        "two": machine(story, cluster, "two", keyring, by_files=True),
    }
    land(landing, 0)
    with held(home) as holder, driver(home) as process:

        def come(condition: Callable[[], Any], what: str) -> Any:
            return until(lambda: condition() or process.poll() is not None, seconds=PATIENCE, what=what)

        def let_go(stage: str) -> None:
            holder.execute("SELECT pg_advisory_unlock(%s)", [HELD[stage]])

        def lose_machine(name: str) -> None:
            lose(workers.pop(name), story.folder / "spark" / name)
            story.lost.append(name)

        come(lambda: len(waiting(home, "raw_events")) == 2, "two tasks that have copied events")
        lose_machine("one")
        workers["three"] = machine(story, cluster, "three", keyring, by_files=False)
        let_go("raw_events")
        story.speculative = come(lambda: waiting_for_another_attempt(home), "a speculative attempt")
        let_go("raw_users")
        [port] = come(lambda: waiting(home, "anonymized_users"), "a task that has copied anonymized users")
        lose_machine(next(name for name, worker in workers.items() if runs_on(worker, port)))
        let_go("anonymized_users")
        workers["four"] = machine(story, cluster, "four", keyring, by_files=True)
        here = story.local.materialize("*")
        assert here.succeeded, here
        story.results.append(ended(process))
    story.look()
    server, home.extra[MASTER] = cluster.connect_server()
    land(landing, 1)
    here = story.local.materialize("*")
    assert here.succeeded, here
    server.says("Spark Connect server started")
    with driver(home, "--look") as process:
        story.results.append(ended(process))
    story.look()
    return story


def test_the_first_run_ended_well_though_two_machines_were_lost(story: Story) -> None:
    assert len(story.lost) == 2
    for result in story.results:
        assert result["run"]["succeeded"], result
        for table in result["run"]["tables"]:
            assert table["status"] == "published"
            assert all(table["checks"].values()), table


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("landing", range(2), ids=["while machines are lost", "through Spark Connect"])
def test_the_cluster_makes_what_one_machine_makes(story: Story, landing: int, table: str) -> None:
    there, here = story.contents[landing][table]
    assert there == here
    assert there


def test_nothing_is_left_in_staging_and_each_table_was_published_once_a_landing(story: Story) -> None:
    assert story.cluster.staging() == []
    published = story.cluster.rows(
        "SELECT subject_table, count(*) FROM governance.privacy_audit_log WHERE action = 'publish' GROUP BY 1"
    )
    assert dict(published) == dict.fromkeys([*TABLES, f"analytics.{PRIVATE}"], 2)


def test_a_speculative_attempt_waited_for_the_first(story: Story) -> None:
    assert story.speculative == 1


def test_workers_have_homes_keyrings_and_folders_of_their_own(story: Story) -> None:
    found = {worker["home"]: worker for worker in story.results[1]["workers"]}
    [*left] = sorted({"two", "three", "four"} - set(story.lost))
    assert sorted(found) == sorted(str(story.folder / f"home-{name}") for name in left)
    for name in left:
        worker = found[str(story.folder / f"home-{name}")]
        assert worker["keyring"] == ("variable" if name == "three" else "file")
        assert worker["SPARK_LOCAL_DIRS"].startswith(str(story.folder / "spark" / name / "scratch"))
        assert worker["POLARS_MAX_THREADS"] == "1"
    assert not (story.folder / "home-three").exists()


def test_what_is_kept_in_the_cluster_is_computed_once(story: Story) -> None:
    assert story.results[1]["computed"] == 1


def test_a_failure_names_its_place_and_no_log_holds_a_value_or_a_key(story: Story) -> None:
    assert re.search(r"\(ValueError in cluster_driver\.py, line \d+\)", story.results[1]["failure"])
    secrets = [MARK, urlsplit(story.cluster.url(Role.PIPELINE)).password, *keys(story.cluster.extra[KEYRING_VARIABLE])]
    logs = [path for path in (story.folder / "spark").rglob("*") if path.suffix == ".log" or path.name == "stderr"]
    assert len(logs) > 6
    for path in logs:
        text = path.read_text(errors="replace")
        assert not [1 for secret in secrets if secret in text], path


def keys(keyring: str) -> list[str]:
    return [master["secret"] for master in json.loads(keyring)["masters"].values()]
