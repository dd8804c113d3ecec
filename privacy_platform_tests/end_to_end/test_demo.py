"""The demonstration: killed half-way on a fresh home, run again to its end, and once more when all is warm."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from privacy_platform_tests.end_to_end.homes import Home, alive, until

# The packaged policy allows 1 % of suppressed rows, which fewer people of such variety would exceed.
SIZE = ("--users", "20000", "--events", "20000")
TABLES = {
    "raw_users": "raw",
    "raw_events": "raw",
    "anonymized_users": "anonymized",
    "anonymized_events": "anonymized",
    "user_cohorts": "analytics",
    "daily_event_metrics": "analytics",
    "event_windows": "analytics",
    "product_metrics": "analytics",
}


@dataclass(frozen=True)
class Demo:
    home: Home
    second: subprocess.CompletedProcess[str]
    second_summary: dict[str, Any]
    third: subprocess.CompletedProcess[str]
    third_summary: dict[str, Any]


def _summary(home: Home) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home.path / "demo" / "summary.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def demo(homes: Callable[..., Home]) -> Demo:
    home = homes()
    with home.started("demo", *SIZE) as running:
        until((home.path / "secrets" / "database.json").exists, seconds=60)
        until(lambda: _staging_begun(home), seconds=120, what="the first release to begin")
        family = running.family()
        running.process.kill()
        until(lambda: not alive(family), seconds=30)
    assert not (home.path / "demo" / "summary.json").exists()
    second = home.run("demo", *SIZE)
    summary = _summary(home)
    third = home.run("demo", *SIZE, "--json")
    return Demo(home, second, summary, third, _summary(home))


def _staging_begun(home: Home) -> bool:
    try:
        return bool(home.staging())
    except Exception:  # the server is not up, or not set up yet
        return False


def test_the_summary_tells_rows_seconds_and_checks(demo: Demo) -> None:
    summary = demo.second_summary
    assert summary["succeeded"] is True
    assert {name: table["zone"] for name, table in summary["tables"].items()} == TABLES
    for name, table in summary["tables"].items():
        assert table["rows"] == demo.home.value(f"SELECT count(*) FROM {table['zone']}.{name}")
        # Of so few events no product is seen by so many people that it is shown, and no minute has five people.
        assert table["rows"] > 0 or name in ("product_metrics", "event_windows")
        assert table["seconds"] > 0
    assert len(summary["checks"]) >= 3 * len(TABLES)
    assert all(summary["checks"].values())
    assert summary["tables"]["raw_users"]["rows"] == 20_000
    assert summary["tables"]["raw_events"]["rows"] == 20_000


def test_it_shows_a_table_and_what_to_do_next(demo: Demo) -> None:
    for name in TABLES:
        assert name in demo.second.stdout
    assert demo.second.stdout.count("published") == len(TABLES)
    for command in ("up", "db url --role analyst", "audit verify"):
        assert f"privacy-platform {command}" in demo.second.stdout
    assert "Traceback" not in demo.second.stderr


def test_it_runs_again_at_once(demo: Demo) -> None:
    assert json.loads(demo.third.stdout) == demo.third_summary
    rows = {name: table["rows"] for name, table in demo.second_summary["tables"].items()}
    assert {name: table["rows"] for name, table in demo.third_summary["tables"].items()} == rows
    # The files were landed again and hold the same, so nothing was charged to anybody's budget a second time.
    assert demo.home.value("SELECT count(*) = count(DISTINCT (target, period)) FROM governance.privacy_budget")
    assert all(demo.third_summary["checks"].values())
    assert demo.home.staging() == []


def test_nothing_in_the_home_is_open_to_others(demo: Demo) -> None:
    home = demo.home.path
    assert home.stat().st_mode & 0o067 == 0  # PostgreSQL's own user may pass through when it is root's home
    assert not [path.name for path in home.iterdir() if path.stat().st_mode & 0o066]
    assert (home / "spark").stat().st_mode & 0o077 == 0


def test_people_and_events_of_the_demo_join(demo: Demo) -> None:
    dangling = demo.home.value(
        "SELECT count(*) FROM anonymized.anonymized_events e "
        "LEFT JOIN anonymized.anonymized_users u USING (user_token) WHERE u.user_token IS NULL"
    )
    assert dangling == 0


def test_the_killed_run_does_not_stay_started_in_dagster(demo: Demo) -> None:
    states = demo.home.rows("SELECT status, count(*) FROM runs GROUP BY 1 ORDER BY 1", database="dagster")
    assert dict(states) == {"FAILURE": 1, "SUCCESS": 2}
