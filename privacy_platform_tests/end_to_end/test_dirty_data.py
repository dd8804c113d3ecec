"""One row in a hundred is bad: each is in quarantine with its place and reason, all others are published."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from privacy_platform.policy.load import PACKAGED
from privacy_platform.synthetic import FileFormat, GenerationReport, PlantedRow, generate
from privacy_platform.synthetic.report import QUARANTINED_KINDS, Dataset
from privacy_platform.warehouse.connection import Role
from privacy_platform_tests.end_to_end.homes import Home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def policy_folder(folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """Packaged policies with other settings at the top."""
    folder.mkdir(exist_ok=True)
    for name, changed in changes.items():
        document = yaml.safe_load((PACKAGED / f"{name}.yaml").read_text(encoding="utf-8"))
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document | dict(changed)), encoding="utf-8")
    return folder


# A thousand people are too few for k = 5 without suppressing more than the packaged policy allows.
_MODEL = {
    "k": 5,
    "quasi_identifiers": ["age_bucket", "gender", "region", "state", "zip_prefix", "created_at"],
    "suppression_limit": 1.0,
}


@dataclass(frozen=True)
class DirtyRun:
    home: Home
    report: GenerationReport
    policies: Path

    def records(self, dataset: Dataset) -> dict[int, dict[str, Any]]:
        """Line → record, for the lines that a reader can read, from what the generator wrote."""
        [file] = [file for file in self.report.files if file.dataset == dataset]
        bad = {row.line_number for row in self.planted(dataset)}
        text = file.path.read_text(encoding="utf-8")
        if file.path.suffix == ".csv":
            found: dict[int, dict[str, Any]] = dict(enumerate(csv.DictReader(text.splitlines()), start=2))
        else:
            found = {n: json.loads(line) for n, line in enumerate(text.splitlines(), start=1) if n not in bad}
        return {number: record for number, record in found.items() if number not in bad}

    def planted(self, dataset: Dataset) -> list[PlantedRow]:
        return [row for row in self.report.planted_in(dataset) if row.kind in QUARANTINED_KINDS]

    def quarantined(self, dataset: Dataset, stage: str) -> dict[tuple[str, str], str]:
        rows = self.home.rows(
            f"SELECT source, position, error FROM raw.quarantine WHERE dataset = '{dataset}' AND stage = '{stage}'",
            Role.COMPLIANCE,
        )
        assert len({row[:2] for row in rows}) == len(rows)
        return {(source, position): error for source, position, error in rows}


def _ran(homes: Callable[..., Home], policies: Path, form: FileFormat, selection: str) -> DirtyRun:
    policy_folder(policies, {"users": {"privacy_model": _MODEL}})
    home = homes(PRIVACY_PLATFORM_POLICIES=str(policies))
    report = generate(users=1_000, events=8_000, out=home.landing, seed=11, dirty=0.01, format=form, days=4)
    summary = home.materialize(selection)
    assert summary.succeeded, summary
    return DirtyRun(home, report, policies)


@pytest.fixture(scope="module")
def dirty(homes: Callable[..., Home], spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> DirtyRun:
    """A full run over dirty JSON Lines."""
    return _ran(homes, tmp_path_factory.mktemp("policies"), "jsonl", "*")


@pytest.fixture(scope="module")
def dirty_csv(homes: Callable[..., Home], spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> DirtyRun:
    """Dirty CSV, landed."""
    return _ran(homes, tmp_path_factory.mktemp("policies"), "csv", "raw_users,raw_events")


def _reason(row: PlantedRow) -> tuple[str, ...]:
    """What a reason must say of a planted row."""
    if row.kind == "missing_field":
        return (f"{row.detail}: missing",)
    if row.kind == "mistyped_field":
        return (f"{row.detail}: not a valid",)
    return ("not valid JSON", "columns instead of")


@pytest.fixture(params=["dirty", "dirty_csv"])
def landed(request: pytest.FixtureRequest) -> DirtyRun:
    """Each of the two."""
    run: DirtyRun = request.getfixturevalue(request.param)
    return run


@pytest.mark.parametrize("dataset", ["users", "events"])
def test_every_bad_row_is_in_quarantine_with_its_place_and_reason(landed: DirtyRun, dataset: Dataset) -> None:
    dirty = landed
    planted = {(row.file, str(row.line_number)): row for row in dirty.planted(dataset)}
    assert len({row.kind for row in planted.values()}) == 3
    found = dirty.quarantined(dataset, "landing")
    assert found.keys() == planted.keys()
    for place, error in found.items():
        assert any(said in error for said in _reason(planted[place])), error


def test_good_rows_are_all_in_raw_and_counts_reconcile(landed: DirtyRun) -> None:
    dirty = landed
    for dataset, key in (("users", "user_id"), ("events", "event_id")):
        good = dirty.records(dataset)  # type: ignore[arg-type]
        rows = dirty.home.value(f"SELECT count(*) FROM raw.raw_{dataset}")
        assert rows == len({record[key] for record in good.values()})
        [file] = [file for file in dirty.report.files if file.dataset == dataset]
        repeated = sum(count - 1 for count in Counter(record[key] for record in good.values()).values())
        assert repeated > 0
        assert file.rows == rows + repeated + len(dirty.quarantined(dataset, "landing"))  # type: ignore[arg-type]


def test_the_later_user_and_the_earlier_event_win(dirty: DirtyRun) -> None:
    changed = [row for row in dirty.report.planted_in("events") if (row.kind, row.detail) == ("duplicate", "changed")]
    assert changed
    events = dirty.records("events")
    for row in changed:
        copy = events[row.line_number]
        first = min(number for number, record in events.items() if record["event_id"] == copy["event_id"])
        assert first < row.line_number
        shown = dirty.home.value(f"SELECT browser FROM raw.raw_events WHERE event_id = '{copy['event_id']}'")
        assert shown == events[first]["browser"] != copy["browser"]


def test_events_of_nobody_and_of_people_whose_row_was_bad_are_quarantined(dirty: DirtyRun) -> None:
    people = {record["user_id"] for record in dirty.records("users").values()}
    events = {record["event_id"]: record["user_id"] for record in dirty.records("events").values()}
    unknown = {number for number, user in events.items() if user not in people}
    planted = {row.line_number for row in dirty.report.planted_in("events") if row.kind == "unknown_user"}
    assert len(unknown) > len(planted) > 0, "somebody whose own row was bad did nothing"
    found = dirty.quarantined("events", "anonymizing")
    assert {position for _, position in found} == unknown
    assert set(found.values()) == {"user_id: not a subject of users"}


def test_counts_reconcile_across_the_anonymized_zone(dirty: DirtyRun) -> None:
    home = dirty.home
    raw, shown = (
        home.value(f"SELECT count(*) FROM {name}") for name in ("raw.raw_users", "anonymized.anonymized_users")
    )
    small = home.value(
        "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM anonymized.anonymized_users "
        "GROUP BY age_bucket, gender, region) c WHERE n < 5"
    )
    assert 0 < shown < raw
    assert small == 0
    hidden = home.value(
        "SELECT count(*) FROM raw.raw_events e WHERE EXISTS (SELECT FROM raw.raw_users u USING_TOKEN) AND NOT EXISTS "
        "(SELECT FROM anonymized.anonymized_users u USING_TOKEN)".replace(
            "USING_TOKEN", "WHERE u.user_token = e.user_token"
        )
    )
    events = home.value("SELECT count(*) FROM raw.raw_events")
    published = home.value("SELECT count(*) FROM anonymized.anonymized_events")
    assert events == published + hidden + len(dirty.quarantined("events", "anonymizing"))
    assert home.staging() == []


_STRAY = (
    "SELECT count(*) FROM anonymized.anonymized_events e WHERE NOT EXISTS "
    "(SELECT FROM anonymized.anonymized_users u WHERE u.user_token = e.user_token)"
)


def test_every_published_event_joins_a_published_user(dirty: DirtyRun) -> None:
    joined = dirty.home.value(
        "SELECT count(*) FROM anonymized.anonymized_events JOIN anonymized.anonymized_users USING (user_token)",
        Role.ANALYST,
    )
    assert joined == dirty.home.value("SELECT count(*) FROM anonymized.anonymized_events", Role.ANALYST) > 0
    assert dirty.home.value(_STRAY, Role.ANALYST) == 0


def test_landing_the_same_files_again_changes_nothing(dirty: DirtyRun) -> None:
    state = (
        "SELECT (SELECT count(*) FROM raw.raw_users), (SELECT count(*) FROM raw.raw_events), "
        "(SELECT count(*) FROM raw.quarantine), (SELECT count(*) FROM vault.subjects), "
        "(SELECT md5(string_agg(e::text, '' ORDER BY event_id)) FROM raw.raw_events e)"
    )
    before = dirty.home.rows(state)
    summary = dirty.home.materialize("raw_users,raw_events")
    assert summary.succeeded, summary
    assert dirty.home.rows(state) == before


def test_a_policy_may_keep_events_of_nobody(dirty: DirtyRun) -> None:
    """Last in this module: it publishes the events anew under another policy."""
    references = {"dataset": "users", "unknown": "keep"}
    policy_folder(dirty.policies, {"events": {"references": references}})
    strangers = len(dirty.quarantined("events", "anonymizing"))
    before = dirty.home.value("SELECT count(*) FROM anonymized.anonymized_events")
    try:
        summary = dirty.home.materialize("anonymized_events")
    finally:
        (dirty.policies / "events.yaml").unlink()
    assert summary.succeeded, summary
    assert dirty.quarantined("events", "anonymizing") == {}
    assert dirty.home.value(_STRAY) == strangers
    assert dirty.home.value("SELECT count(*) FROM anonymized.anonymized_events") == before + strangers
