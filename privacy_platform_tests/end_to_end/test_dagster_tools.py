"""Dagster's own tools on this repository, in the shell that `privacy-platform env` makes, or in a bare one."""

import os
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privacy_platform_tests.end_to_end.homes import BIN, ROOT, Home
from privacy_platform_tests.end_to_end.people import events, people, write

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


DAY = date(2026, 6, 11)


@pytest.fixture(scope="module")
def home(homes: Callable[..., Home], spark: "SparkSession") -> Home:
    home = homes()
    someone = people(60)
    write(home.landing / "users.jsonl", someone)
    write(home.landing / "events.jsonl", events(someone, 600))
    return home


def _shell(home: Home, script: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["sh", "-ec", script],
        env=home.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("words", [[], ["-w", "workspace.yaml"], ["-m", "privacy_platform.definitions"]])
def test_definitions_validate_in_a_bare_shell(home: Home, words: list[str]) -> None:
    """Without DAGSTER_HOME, without a server, from the repository's own files."""
    done = Home(home.path / "nowhere").tool("dagster", "definitions", "validate", *words)
    assert "Validation successful" in done.stdout + done.stderr
    assert not (home.path / "nowhere").exists()


def test_assets_materialize_in_the_shell_that_env_makes(home: Home) -> None:
    materialize = 'eval "$(privacy-platform env)"\ndagster asset materialize'
    _shell(home, f"{materialize} --select raw_users")
    assert home.materialize("anonymized_users").succeeded
    assert home.value("SELECT count(*) FROM anonymized.anonymized_users") == 60
    _shell(home, f"{materialize} --select raw_events,anonymized_events --partition-range 2026-06-10...2026-06-11")
    days = [("2026-06-10",), ("2026-06-11",)]
    for table in ("raw.raw_events", "anonymized.anonymized_events"):
        assert home.rows(f"SELECT DISTINCT timestamp::date::text FROM {table} ORDER BY 1") == days
    assert home.materialize("anonymized_events", days=(DAY, DAY)).succeeded
    assert home.rows("SELECT DISTINCT timestamp::date::text FROM anonymized.anonymized_events ORDER BY 1") == days
    states = home.rows("SELECT DISTINCT status FROM runs", database="dagster")
    assert states == [("SUCCESS",)]


def test_assets_are_listed_in_a_bare_shell(home: Home, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "dagster"), "asset", "list", "-m", "privacy_platform.definitions"],
        env=home.environment() | {"HOME": os.fspath(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed = set(done.stdout.split())
    assert {"raw_users", "anonymized_events", "product_metrics"} <= listed
