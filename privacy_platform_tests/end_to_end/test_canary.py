"""Planted people leave no trace outside the landing folder; switching off any one technique publishes nothing."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from privacy_platform.policy.load import PACKAGED, load_policies
from privacy_platform_tests.end_to_end import canaries
from privacy_platform_tests.end_to_end.homes import Home
from privacy_platform_tests.end_to_end.people import write

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def _keeping(folder: Path, kept: Path) -> Iterator[None]:
    """Hold on to every file that appears below a folder, however short it lives, by a second name for it."""
    ended = threading.Event()
    kept.mkdir()
    seen: set[int] = set()

    def watch() -> None:
        while not ended.wait(0.02):
            for parent, _, names in os.walk(folder):
                for name in names:
                    path = Path(parent, name)
                    try:
                        number = path.lstat().st_ino
                        if number not in seen and path.is_file() and not path.is_symlink():
                            os.link(path, kept / str(number))
                            seen.add(number)
                    except OSError:
                        continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True)
class CanaryRun:
    home: Home
    output: str
    temporary_files: int


@pytest.fixture(scope="module")
def ran(homes: Callable[..., Home]) -> CanaryRun:
    """A full run of the command line over data full of canaries; its short-lived files are kept to be looked at."""
    home = homes()
    write(home.landing / "users.jsonl", canaries.user_lines())
    write(home.landing / "events.jsonl", canaries.event_lines())
    temporary, kept = home.path / "tmp", home.path / "kept"
    temporary.mkdir()
    home.extra |= {"TMPDIR": str(temporary), "SPARK_LOCAL_DIRS": str(temporary)}
    with _keeping(temporary, kept):
        done = home.run("materialize", "*", code=None)
    assert done.returncode == 0, done.stdout + done.stderr
    return CanaryRun(home, done.stdout + done.stderr, len(list(kept.iterdir())))


def test_the_search_finds_what_it_looks_for(ran: CanaryRun) -> None:
    home = ran.home
    assert canaries.traces_in_files(home.path, apart=(home.path / "postgres",)).keys() == {
        "landing/users.jsonl",
        "landing/events.jsonl",
    }
    email = canaries.CANARIES[8]["email"]
    with home.connect() as connection:
        for form in (f"'{email}'", f"'{email.upper()}'", f"'{email}'::bytea", f"encode('{email}', 'base64')"):
            assert canaries.traces_in_query(connection, f"SELECT {form}")
            assert canaries.traces_in_query(connection, f"SELECT encode('x{email}', 'base64')")


def test_no_trace_in_what_people_may_read(ran: CanaryRun) -> None:
    schemas = ("anonymized", "analytics", "governance", "staging")
    assert canaries.traces_in_tables(ran.home, *schemas) == {}
    assert sum(ran.home.visible().values()) > 1000


def test_no_readable_trace_in_the_sealed_zones(ran: CanaryRun) -> None:
    assert canaries.traces_in_tables(ran.home, "raw", "vault") == {}
    assert ran.home.value("SELECT count(*) FROM raw.raw_users") == 170
    assert ran.home.value("SELECT count(*) FROM raw.raw_users WHERE octet_length(sealed) > 100") == 170


def test_no_trace_in_dagster(ran: CanaryRun) -> None:
    assert ran.home.value("SELECT 1") == 1
    assert "public.event_logs" in ran.home.tables(database="dagster")
    assert canaries.traces_in_tables(ran.home, database="dagster") == {}


def test_no_trace_in_any_file_of_the_home(ran: CanaryRun) -> None:
    """The server's own files, its write-ahead log and its log, Dagster's files, Spark's work files of the run."""
    home = ran.home
    apart = (home.landing, home.path / "secrets" / "keyring.json")
    assert ran.temporary_files > 0
    assert canaries.traces_in_files(home.path, apart=apart) == {}


def test_no_trace_on_the_screen(ran: CanaryRun) -> None:
    assert "raw_events" in ran.output
    assert canaries.traces(ran.output.encode()) == set()


def test_bad_rows_are_in_quarantine_and_nothing_else(ran: CanaryRun) -> None:
    counted = ran.home.rows("SELECT dataset, stage, count(*) FROM raw.quarantine GROUP BY 1, 2 ORDER BY 1, 2")
    assert counted == [
        ("events", "anonymizing", canaries.STRANGERS),
        ("events", "landing", canaries.QUARANTINED_EVENTS),
        ("users", "landing", canaries.QUARANTINED_USERS),
    ]
    assert ran.home.staging() == []


def test_the_text_around_personal_data_stays(ran: CanaryRun) -> None:
    texts = {text for (text,) in ran.home.rows("SELECT DISTINCT search_query FROM anonymized.anonymized_events")}
    assert {"warm socks", "order of [EMAIL]"} <= texts


PROTECTED = [
    (dataset, name)
    for dataset, policy in load_policies([PACKAGED]).datasets.items()
    for name, field in policy.fields.items()
    if field.sensitivity.sealed
]
# Not secret by themselves: published as they are when enough people share them, together with all the others.
OPEN_QUASI_IDENTIFIERS = [
    name
    for name, field in load_policies([PACKAGED]).datasets["users"].fields.items()
    if field.technique.protects and not field.sensitivity.sealed
]


def _switched_off(folder: Path, dataset: str, name: str) -> Path:
    """A policy folder in which one field of a packaged policy is `keep`."""
    document: Any = yaml.safe_load((PACKAGED / f"{dataset}.yaml").read_text(encoding="utf-8"))
    document["fields"][name]["technique"] = "keep"
    folder.mkdir(exist_ok=True)
    (folder / f"{dataset}.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def landed(homes: Callable[..., Home], spark: "SparkSession") -> Home:
    """A home where canaries have landed and nothing has been anonymized."""
    home = homes()
    write(home.landing / "users.jsonl", canaries.user_lines())
    write(home.landing / "events.jsonl", canaries.event_lines())
    summary = home.materialize("raw_users,raw_events")
    assert summary.succeeded, summary
    return home


@pytest.fixture(scope="module")
def users_published(landed: Home) -> Home:
    """The same with the users published, since the events refer to them."""
    summary = landed.materialize("anonymized_users")
    assert summary.succeeded, summary
    return landed


def _refused(home: Home, folder: Path, dataset: str, name: str) -> None:
    policies, home.extra["PRIVACY_PLATFORM_POLICIES"] = home.extra, str(_switched_off(folder, dataset, name))
    before = home.visible()
    try:
        summary = home.materialize(f"anonymized_{dataset}+")
    finally:
        policies.pop("PRIVACY_PLATFORM_POLICIES")
    by_table = {table.table: table for table in summary.tables}
    red = by_table.pop(f"anonymized_{dataset}")
    assert not summary.succeeded
    assert red.status == "failed"
    output = load_policies([PACKAGED]).datasets[dataset].outputs()[name]
    assert f"`{name}`" in red.message or f"fields.{name}" in red.message or f"`{output}`" in red.message
    assert {table.status for table in by_table.values()} <= {"skipped"}
    assert home.visible() == before
    assert home.staging() == []


@pytest.mark.parametrize("name", [name for dataset, name in PROTECTED if dataset == "users"])
def test_a_users_technique_switched_off_publishes_nothing(landed: Home, tmp_path: Path, name: str) -> None:
    _refused(landed, tmp_path / "policies", "users", name)
    assert "anonymized.anonymized_users" not in landed.visible()


@pytest.mark.parametrize("name", OPEN_QUASI_IDENTIFIERS)
def test_a_quasi_identifier_switched_off_is_still_shared_by_enough_people(
    landed: Home, tmp_path: Path, name: str
) -> None:
    other = Home(landed.path, landed.extra | {"PRIVACY_PLATFORM_POLICIES": str(_switched_off(tmp_path, "users", name))})
    model = load_policies([PACKAGED]).datasets["users"].privacy_model
    assert model is not None
    if other.materialize("anonymized_users").succeeded:
        columns = ", ".join(model.quasi_identifiers)
        counted = f"SELECT min(n) FROM (SELECT count(*) AS n FROM anonymized.anonymized_users GROUP BY {columns}) c"
        assert other.value(counted) >= model.k
        with other.connect() as connection:
            connection.execute("DROP TABLE anonymized.anonymized_users CASCADE")
    assert "anonymized.anonymized_users" not in landed.visible()


@pytest.mark.parametrize("name", [name for dataset, name in PROTECTED if dataset == "events"])
def test_an_events_technique_switched_off_publishes_nothing(users_published: Home, tmp_path: Path, name: str) -> None:
    _refused(users_published, tmp_path / "policies", "events", name)
    assert "anonymized.anonymized_events" not in users_published.visible()


@pytest.mark.parametrize(("dataset", "name"), [("users", "email"), ("events", "ip_address")])
def test_the_command_line_says_which_field(users_published: Home, tmp_path: Path, dataset: str, name: str) -> None:
    home = Home(users_published.path, {"PRIVACY_PLATFORM_POLICIES": str(_switched_off(tmp_path / "p", dataset, name))})
    before = home.visible()
    done = home.run("materialize", f"anonymized_{dataset}+", code=1)
    assert f"`{name}`" in done.stderr
    assert "choose hash" in done.stderr
    assert "Traceback" not in done.stderr
    assert home.visible() == before


def test_a_column_named_by_a_personal_value_stops_the_run_unnamed(users_published: Home) -> None:
    home = users_published
    path = home.landing / "users-2.jsonl"
    write(path, [canaries.canary(3) | {canaries.CANARIES[3]["email"]: 1}])
    try:
        summary = home.materialize("raw_users")
    finally:
        path.unlink()
    assert not summary.succeeded
    assert "a name that is not an identifier" in summary.tables[0].message


def test_the_refused_runs_left_no_trace_either(users_published: Home) -> None:
    """Runs last in this module: the failed runs above ended in this home."""
    home = users_published
    assert canaries.traces_in_tables(home) == {}
    assert canaries.traces_in_tables(home, database="dagster") == {}
    assert canaries.traces_in_files(home.path, apart=(home.landing, home.path / "secrets" / "keyring.json")) == {}


_FIELD = "type: string, sensitivity: high, comment: x"
BROKEN = {
    "a field without a technique": (f"{{{_FIELD}}}", "fields.email.technique", "add it"),
    "an unknown technique": (f"{{{_FIELD}, technique: rot13}}", "fields.email", "correct its name"),
    "no YAML at all": ("{type: [", "not valid YAML", "line"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_policy_fails_its_assets_and_no_others(landed: Home, tmp_path: Path, broken: str) -> None:
    text, named, mend = BROKEN[broken]
    (tmp_path / "users.yaml").write_text(
        "dataset: users\ndescription: x\nsource: {files: ['users*']}\nsubject: user_id\nkey: user_id\nfields:\n"
        "  user_id: {type: string, sensitivity: high, technique: tokenize, output: user_token, comment: x}\n"
        f"  email: {text}\n",
        encoding="utf-8",
    )
    home = Home(landed.path, {"PRIVACY_PLATFORM_POLICIES": str(tmp_path)})
    before = home.visible()
    summary = home.materialize("raw_users,anonymized_users")
    messages = {table.table: table.message for table in summary.tables}
    assert not summary.succeeded
    for message in messages.values():
        assert "users.yaml" in message
        assert named in message
        assert mend in message
    assert messages.keys() == {"raw_users", "anonymized_users"}
    assert home.visible() == before
