"""Kill -9 in the middle of every asset's publish, then run again: the same as if nothing had happened."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from privacy_platform.warehouse.connection import Role
from privacy_platform_tests.end_to_end.homes import Home, Started, alive, until
from privacy_platform_tests.end_to_end.people import events, people, write
from privacy_platform_tests.end_to_end.test_dirty_data import policy_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What is killed side by side: no table of a round is made from another one of it.
ROUNDS = (
    ("raw.raw_users", "raw.raw_events"),
    ("anonymized.anonymized_users", "anonymized.anonymized_events"),
    ("analytics.user_cohorts", "analytics.daily_event_metrics", "analytics.product_metrics"),
)
TABLES = [table for tables in ROUNDS for table in tables]
# What two runs over the same data need not share: times of the run, values under a salt of the release, seals.
VOLATILE = {"anonymized_at", "landed_at", "landing_order", "first_name_hash", "last_name_hash", "sealed"}


def _land_first(home: Home) -> None:
    someone = people(60)
    write(home.landing / "users.jsonl", someone)
    write(home.landing / "events.jsonl", events(someone, 600))


def _land_second(home: Home) -> None:
    """Other values of known people, new people, and events of all days: every table gets more rows than it had."""
    someone = people(60)
    changed = [row | {"account_status": "inactive", "lifetime_value": 0.25} for row in someone[:12]]
    joined = [row | {"subscription_tier": "enterprise"} for row in people(60, start=60)]
    write(home.landing / "users-2.jsonl", [*changed, *joined])
    more = [row | {"event_type": "login", "product_id": "prod_0009"} for row in events(someone, 600, start=1_000)]
    write(home.landing / "events-2.jsonl", more)


def _content(home: Home, table: str) -> list[tuple[Any, ...]]:
    columns = [
        column
        for (column,) in home.rows(
            f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        if column not in VOLATILE
    ]
    return sorted(home.rows(f"SELECT {', '.join(columns)} FROM {table}"), key=repr)


@dataclass
class Reader:
    """Counts the rows of a table over and over, as an analyst's query would, with a look at their versions."""

    home: Home
    table: str
    seen: list[tuple[int, int]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        column = "landed_at" if self.table.startswith("raw.") else "anonymized_at"
        versions = f"count(DISTINCT {column})" if not self.table.startswith("analytics.") else "1"
        with self.home.connect() as connection:
            while not self.ended.is_set():
                row = connection.execute(f"SELECT count(*), {versions} FROM {self.table}".encode()).fetchone()
                assert row is not None
                self.seen.append((int(row[0]), int(row[1])))
                time.sleep(0.02)


@contextmanager
def _reading(home: Home, table: str) -> Iterator[Reader]:
    home.url()
    reader = Reader(home, table)
    thread = threading.Thread(target=reader.look, daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        reader.ended.set()
        thread.join(timeout=60)
        assert not thread.is_alive()


def _waits_for_swap(home: Home, table: str, process: Started) -> bool:
    assert process.process.poll() is None, process.said()
    return bool(
        home.value(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' "
            f"AND relation = '{table}'::regclass"
        )
    )


@dataclass
class Killed:
    """What was seen around the kill of the run that published one table."""

    before: int
    after: int
    reader: Reader
    staged: list[str]
    family: list[psutil.Process]
    left: list[str] = field(default_factory=list)


@dataclass
class KilledHome:
    home: Home
    control: Home
    first: dict[str, int]
    killed: dict[str, Killed]
    staging_before_last: list[str]


def _kill_in_publish(home: Home, tables: tuple[str, ...]) -> dict[str, Killed]:
    """Hold each table as a reader does, run until all publishes wait for it, kill them, let go."""
    with ExitStack() as stack:
        readers = {table: stack.enter_context(_reading(home, table)) for table in tables}
        holders = []
        for table in tables:
            holder = stack.enter_context(home.connect())
            holder.execute("BEGIN")
            holder.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE".encode())
            holders.append(holder)
        before = {table: home.value(f"SELECT count(*) FROM {table}") for table in tables}
        runs = {
            table: stack.enter_context(home.started("materialize", table.partition(".")[2], "--json"))
            for table in tables
        }
        killed = {}
        pending = set(tables)
        # A publish gives up after half a minute, so each is killed as soon as it waits.
        while pending:
            for table in sorted(pending):
                if _waits_for_swap(home, table, runs[table]):
                    family = runs[table].family()
                    staged = [name for name in home.staging() if table.partition(".")[2] in name]
                    runs[table].process.kill()
                    killed[table] = Killed(before[table], 0, readers[table], staged, family)
                    pending.remove(table)
            time.sleep(0.05)
        for holder in holders:
            holder.execute("ROLLBACK")
        for table, seen in killed.items():
            until(lambda seen=seen: not alive(seen.family), seconds=30, what=f"all processes of {table} to end")
            seen.after = home.value(f"SELECT count(*) FROM {table}")
            seen.left = alive(seen.family)
    return killed


@pytest.fixture(scope="module")
def story(homes: Callable[..., Home], spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> KilledHome:
    # Noise is never the same again: figures that two runs must share are exact ones.
    exact = {table.partition(".")[2]: {"mode": "exact_with_minimum"} for table in ROUNDS[-1]}
    folder = policy_folder(tmp_path_factory.mktemp("policies"), exact)
    home, control = (homes(PRIVACY_PLATFORM_POLICIES=str(folder)) for _ in range(2))
    with home.entered():
        from privacy_platform.vault.keyring import ensure_keyring

        ensure_keyring()
    shutil.copytree(home.path / "secrets", control.path / "secrets", ignore=lambda *_: ["database.json"])
    for each in (home, control):
        _land_first(each)
    assert home.materialize("*").succeeded
    first = {table: home.value(f"SELECT count(*) FROM {table}") for table in TABLES}
    for each in (home, control):
        _land_second(each)
    assert control.materialize("*").succeeded
    killed: dict[str, Killed] = {}
    left: list[str] = []
    for tables in ROUNDS:
        killed |= _kill_in_publish(home, tables)
        left += home.staging()
        again = ",".join(table.partition(".")[2] for table in tables)
        with ExitStack() as stack:
            readers = {table: stack.enter_context(_reading(home, table)) for table in tables}
            summary = home.materialize(again)
            assert summary.succeeded, summary
        for table, reader in readers.items():
            killed[table].reader.seen += reader.seen
    return KilledHome(home, control, first, killed, left)


@pytest.mark.parametrize("table", TABLES)
def test_a_killed_publish_changes_nothing(story: KilledHome, table: str) -> None:
    killed = story.killed[table]
    assert killed.before == killed.after
    assert killed.staged, "the kill came before or after the publish"
    assert len(killed.family) > 2, "the run had no Spark"


@pytest.mark.parametrize("table", TABLES)
def test_a_killed_run_leaves_no_process(story: KilledHome, table: str) -> None:
    assert story.killed[table].left == []


@pytest.mark.parametrize("table", TABLES)
def test_running_again_gives_what_a_clean_run_gives(story: KilledHome, table: str) -> None:
    content = _content(story.home, table)
    assert content == _content(story.control, table)
    assert len(content) > story.first[table]


@pytest.mark.parametrize("table", TABLES)
def test_readers_saw_the_old_or_the_new_and_nothing_between(story: KilledHome, table: str) -> None:
    seen = story.killed[table].reader.seen
    old, new = story.first[table], story.home.value(f"SELECT count(*) FROM {table}")
    assert {count for count, _ in seen} == {old, new}
    if table == "anonymized.anonymized_users":
        assert {versions for _, versions in seen} == {1}


def test_no_staging_table_is_left(story: KilledHome) -> None:
    assert story.staging_before_last, "the killed runs left nothing to clean up"
    assert story.home.staging() == []


def test_lineage_and_audit_know_nothing_of_the_killed_runs(story: KilledHome) -> None:
    published = story.home.rows(
        "SELECT subject_table, count(*) FROM governance.privacy_audit_log WHERE action = 'publish' GROUP BY 1",
        Role.COMPLIANCE,
    )
    assert {table: count for table, count in published if table in TABLES} == dict.fromkeys(TABLES, 2)
    assert story.home.json("audit", "verify")["ok"] is True
