"""The landing sensor on real files: what it asks for, once a version, and that the asked run really runs."""

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest

from privacy_platform.defs import automation
from privacy_platform.defs.automation import RANGE_END, RANGE_START
from privacy_platform.engine.sources.files import SourceError
from privacy_platform.engine.sources.splits import file_splits
from privacy_platform_tests.end_to_end.homes import Home
from privacy_platform_tests.end_to_end.people import events, people, write

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SOMEONE = people(60)
OF_USERS = {"raw_users", "anonymized_users", "user_cohorts"}
OF_EVENTS = {"raw_events", "anonymized_events", "daily_event_metrics", "event_windows", "product_metrics"}


@pytest.fixture(scope="module")
def home(homes: Callable[..., Home]) -> Home:
    return homes()


@pytest.fixture
def landing(home: Home) -> Iterator[Path]:
    """An empty landing folder."""
    folder = home.landing
    for path in folder.iterdir():
        path.unlink()
    yield folder
    for path in folder.iterdir():
        path.unlink()


def settle(*paths: Path, seconds: float = 60) -> None:
    """Make files look as if they had been written a while ago."""
    for path in paths:
        then = time.time() - seconds
        os.utime(path, (then, then))


def look(home: Home, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    """One evaluation of the sensor."""
    from privacy_platform.definitions import build_definitions

    with home.entered(), dg.DagsterInstance.ephemeral() as instance:
        definitions = build_definitions()
        sensor = definitions.get_sensor_def("landing_files")
        with dg.build_sensor_context(instance=instance, cursor=cursor, definitions=definitions) as context:
            result: Any = sensor(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def request(result: dg.SensorResult | dg.SkipReason) -> dg.RunRequest:
    assert isinstance(result, dg.SensorResult), result
    [asked] = result.run_requests or []
    return asked


def asked_tables(asked: dg.RunRequest) -> set[str]:
    return {key.to_user_string() for key in asked.asset_selection or []}


def days(asked: dg.RunRequest) -> tuple[str | None, str | None]:
    return asked.tags.get(RANGE_START), asked.tags.get(RANGE_END)


def test_an_empty_folder_is_nothing_to_do(home: Home, landing: Path) -> None:
    assert isinstance(look(home), dg.SkipReason)


def test_a_new_users_file_starts_users_and_all_downstream(home: Home, landing: Path) -> None:
    settle(write(landing / "users.jsonl", SOMEONE))
    asked = request(look(home))
    assert asked_tables(asked) == OF_USERS
    assert asked.run_config == {"ops": {"raw_users": {"config": {"files": ["users.jsonl"]}}}}
    assert days(asked) == (None, None)


def test_an_events_file_of_many_days_asks_for_all_of_them(home: Home, landing: Path) -> None:
    settle(write(landing / "events.jsonl", events(SOMEONE, 30)))
    asked = request(look(home))
    assert asked_tables(asked) == OF_EVENTS
    assert days(asked) == ("2026-06-10", "2026-06-12")


def test_a_file_a_day_asks_for_one_run_of_all(home: Home, landing: Path) -> None:
    rows = events(SOMEONE, 30)
    for day in ("2026-06-10", "2026-06-11"):
        settle(write(landing / f"events-{day}.jsonl", [row for row in rows if row["timestamp"].startswith(day)]))
    asked = request(look(home))
    assert days(asked) == ("2026-06-10", "2026-06-11")
    [files] = [op["config"]["files"] for op in asked.run_config["ops"].values()]
    assert sorted(files) == ["events-2026-06-10.jsonl", "events-2026-06-11.jsonl"]


def test_formats_and_names_that_are_no_data(home: Home, landing: Path) -> None:
    rows = events(SOMEONE, 3)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    with gzip.open(landing / "events-a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    frame.write_csv(landing / "events-b.csv")
    frame.write_parquet(landing / "events-c.parquet")
    (landing / "events-d.CSV.gz").write_bytes(gzip.compress(frame.write_csv().encode()))
    for name in ("events-e.txt", "notes.jsonl", "events-f.jsonl.part", ".events-g.jsonl", "events-h.parquet.gz"):
        (landing / name).write_text("no data\n", encoding="utf-8")
    (landing / "events-folder.jsonl").mkdir()
    settle(*landing.iterdir())
    try:
        asked = request(look(home))
    finally:
        (landing / "events-folder.jsonl").rmdir()
    files = asked.run_config["ops"]["raw_events"]["config"]["files"]
    assert sorted(files) == ["events-a.jsonl.gz", "events-b.csv", "events-c.parquet", "events-d.CSV.gz"]
    assert days(asked) == ("2026-06-10", "2026-06-12")


def test_a_version_starts_a_run_once_and_a_new_version_again(home: Home, landing: Path) -> None:
    path = write(landing / "users.jsonl", SOMEONE)
    settle(path)
    first = look(home)
    assert isinstance(first, dg.SensorResult)
    assert isinstance(look(home, first.cursor), dg.SkipReason)
    write(path, [*SOMEONE, *people(1, start=60)])
    settle(path, seconds=30)
    second = look(home, first.cursor)
    assert isinstance(second, dg.SensorResult)
    assert request(second).run_key != request(first).run_key
    assert isinstance(look(home, second.cursor), dg.SkipReason)
    # What docs/operations.md says to do after a failed run.
    before = path.stat()
    settle(path, seconds=20)
    assert asked_tables(request(look(home, second.cursor))) == OF_USERS
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    # Without its cursor the sensor asks again, by the same key, which Dagster runs once.
    assert request(look(home)).run_key == request(second).run_key


def test_a_file_being_written_waits(home: Home, landing: Path) -> None:
    path = write(landing / "users.jsonl", SOMEONE)
    assert isinstance(look(home), dg.SkipReason)
    settle(path, seconds=3)
    assert asked_tables(request(look(home))) == OF_USERS


@pytest.mark.parametrize("cursor", ["", "{", "[]", "null", "17", '{"users.jsonl": 3}', "\x00"])
def test_a_cursor_that_cannot_be_read_counts_as_none(home: Home, landing: Path, cursor: str) -> None:
    settle(write(landing / "users.jsonl", SOMEONE))
    assert asked_tables(request(look(home, cursor))) == OF_USERS


def test_a_broken_file_does_not_keep_others_waiting(home: Home, landing: Path) -> None:
    """A truncated archive or a Parquet file that is none must fail its run, by name, and not the sensor for ever."""
    (landing / "events-a.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 1000)[:40])
    (landing / "events-b.parquet").write_bytes(b"PAR1 but no more")
    settle(write(landing / "users.jsonl", SOMEONE), *landing.iterdir())
    result = look(home)
    assert isinstance(result, dg.SensorResult)
    assert sorted(sorted(asked_tables(asked))[-1] for asked in result.run_requests or []) == [
        "raw_events",
        "raw_events",
        "user_cohorts",
    ]
    assert isinstance(look(home, result.cursor), dg.SkipReason)
    with home.entered(), pytest.raises(SourceError, match=r"events-b\.parquet"):
        file_splits([landing / "events-b.parquet"], parallelism=1)


def test_a_look_takes_a_bounded_number_of_files_and_bytes_and_the_next_one_the_rest(
    home: Home, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = events(SOMEONE, 30)
    for number in range(7):
        settle(write(landing / f"events-{number}.jsonl", rows), seconds=100 - number)
    size = (landing / "events-0.jsonl").stat().st_size
    monkeypatch.setattr(automation, "SCANNED_FILES", 3)
    names, cursor = [], None
    for _ in range(3):
        result = look(home, cursor)
        assert isinstance(result, dg.SensorResult)
        names.append(request(result).run_config["ops"]["raw_events"]["config"]["files"])
        cursor = result.cursor
    assert [len(each) for each in names] == [3, 3, 1]
    assert [name for each in names for name in each] == [f"events-{number}.jsonl" for number in range(7)]
    assert isinstance(look(home, cursor), dg.SkipReason)
    monkeypatch.setattr(automation, "SCANNED_BYTES", 2 * size)
    result = look(home)
    assert len(request(result).run_config["ops"]["raw_events"]["config"]["files"]) == 2
    # One that is larger than all that a look reads is landed for all days there can be.
    monkeypatch.setattr(automation, "SCANNED_BYTES", size - 1)
    assert days(request(look(home))) == ("2026-01-01", str(automation.today()))


def test_many_unreadable_files_are_taken_some_at_a_time(
    home: Home, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automation, "UNREADABLE_FILES", 2)
    for number in range(5):
        (landing / f"events-{number}.parquet").write_bytes(b"PAR1 but no more")
    settle(*landing.iterdir())
    asked, cursor = [], None
    for _ in range(3):
        result = look(home, cursor)
        assert isinstance(result, dg.SensorResult)
        asked.append(len(result.run_requests or []))
        cursor = result.cursor
    assert asked == [2, 2, 1]


def test_the_cursor_forgets_files_that_are_gone(home: Home, landing: Path) -> None:
    settle(write(landing / "users.jsonl", SOMEONE))
    first = look(home)
    assert isinstance(first, dg.SensorResult)
    (landing / "users.jsonl").unlink()
    settle(write(landing / "users-2.jsonl", SOMEONE))
    second = look(home, first.cursor)
    assert isinstance(second, dg.SensorResult)
    assert list(json.loads(second.cursor or "")) == ["users-2.jsonl"]


def test_the_asked_run_runs(home: Home, landing: Path, spark: "SparkSession") -> None:
    from privacy_platform.definitions import build_definitions
    from privacy_platform.defs.instance import open_instance
    from privacy_platform.vault.keyring import ensure_keyring

    settle(write(landing / "users.jsonl", SOMEONE), write(landing / "events.jsonl", events(SOMEONE, 600)))
    asked = request(look(home))
    assert asked_tables(asked) == OF_USERS | OF_EVENTS
    with home.entered():
        ensure_keyring()
        definitions = build_definitions()
        job = definitions.resolve_implicit_job_def_def_for_assets(list(asked.asset_selection or []))
        assert job is not None
        with open_instance() as instance:
            result = job.execute_in_process(
                instance=instance,
                asset_selection=list(asked.asset_selection or []),
                run_config=dict(asked.run_config),
                tags=dict(asked.tags),
                raise_on_error=False,
            )
    assert result.success
    assert home.value("SELECT count(*) FROM anonymized.anonymized_events") == 600
    # A newer users file alone: the events that refer to them are published anew for all days that stand.
    settle(write(landing / "users.jsonl", SOMEONE[:50]), seconds=10)
    (landing / "events.jsonl").unlink()
    again = request(look(home))
    assert asked_tables(again) == OF_USERS | (OF_EVENTS - {"raw_events"})
    assert days(again) == ("2026-06-10", "2026-06-12")
