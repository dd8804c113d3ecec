"""`privacy-platform up`: what the UI is told over GraphQL, and a file in landing that becomes a run by itself."""

import json
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from privacy_platform.policy.load import PACKAGED, load_policies
from privacy_platform_tests.end_to_end.homes import Home, Started, alive, until
from privacy_platform_tests.end_to_end.people import events, people, write
from privacy_platform_tests.end_to_end.test_dirty_data import policy_folder

ASSETS = """{ assetNodes {
  assetKey { path } groupName description kinds isMaterializable
  owners { ... on TeamAssetOwner { team } ... on UserAssetOwner { email } }
  tags { key value }
  dependencyKeys { path }
  metadataEntries { __typename label
    ... on TableSchemaMetadataEntry { schema { columns { name type description tags { key value } } } }
    ... on TableColumnLineageMetadataEntry { lineage { columnName columnDeps { assetKey { path } columnName } } }
    ... on TableMetadataEntry { table { records } } }
  assetChecksOrError { ... on AssetChecks { checks { name blocking description } } }
} }"""
SENSOR = """query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) {
  ... on Sensor { id sensorState { id status ticks(limit: 5) { status skipReason error { message } } } } } }"""
START = """mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) {
  __typename ... on Sensor { sensorState { status } } ... on PythonError { message } } }"""
RUNS = "{ runsOrError { ... on Runs { results { runId status tags { key value } } } } }"
LATEST = """{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { metadataEntries { label
  ... on IntMetadataEntry { intValue } } }
  assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization { status } } } } } }"""


@dataclass
class Dagster:
    """A running `up`."""

    home: Home
    process: Started
    port: int

    def ask(self, query: str, **variables: Any) -> Any:
        data = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", data=data, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            document = json.load(answer)
        assert "errors" not in document, document["errors"]
        return document["data"]

    def answers(self) -> bool:
        assert self.process.process.poll() is None, self.process.said()
        try:
            return bool(self.ask("{ version }"))
        except OSError:
            return False

    def runs(self) -> dict[str, str]:
        return {run["runId"]: run["status"] for run in self.ask(RUNS)["runsOrError"]["results"]}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _started_runs(home: Home) -> int:
    try:
        return int(home.rows("SELECT count(*) FROM runs WHERE status = 'STARTED'", database="dagster")[0][0])
    except Exception:  # the server or its tables are not there yet
        return 0


@pytest.fixture(scope="module")
def dagster(homes: Callable[..., Home], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dagster]:
    """Web server and daemon on a home where an earlier run was killed."""
    # Of sixty people a private table shows nothing but what is known beforehand.
    exact = {name: {"mode": "exact_with_minimum"} for name in sorted(TABLES["analytics"])}
    home = homes(PRIVACY_PLATFORM_POLICIES=str(policy_folder(tmp_path_factory.mktemp("exact"), exact)))
    write(home.landing / "users-0.jsonl", people(30))
    with home.started("materialize", "raw_users") as killed:
        until(lambda: _started_runs(home), seconds=90, what="the run to start")
    assert killed.process.returncode == -signal.SIGKILL
    (home.landing / "users-0.jsonl").unlink()
    port = _free_port()
    with home.started("up", "--port", str(port)) as process:
        running = Dagster(home, process, port)
        until(running.answers, seconds=90, every=0.5, what="the web server to answer")
        yield running


@pytest.fixture(scope="module")
def assets(dagster: Dagster) -> dict[str, Any]:
    found = until(lambda: dagster.ask(ASSETS)["assetNodes"], seconds=60, every=0.5, what="the code location to load")
    return {node["assetKey"]["path"][-1]: node for node in found}


TABLES = {
    "raw": {"raw_users", "raw_events"},
    "anonymized": {"anonymized_users", "anonymized_events"},
    "analytics": {"user_cohorts", "daily_event_metrics", "event_windows", "product_metrics"},
}


def _tables(assets: dict[str, Any]) -> dict[str, Any]:
    return {name: node for name, node in assets.items() if node["isMaterializable"]}


def test_groups_are_the_zones(assets: dict[str, Any]) -> None:
    groups: dict[str, set[str]] = {}
    for name, node in _tables(assets).items():
        groups.setdefault(node["groupName"], set()).add(name)
    assert groups == TABLES


def test_every_table_says_what_it_is_and_whose(assets: dict[str, Any]) -> None:
    for name, node in _tables(assets).items():
        assert node["description"], name
        assert node["owners"], name
        assert set(node["kinds"]) == {"pyspark", "postgres"}, name
        tags = {tag["key"]: tag["value"] for tag in node["tags"]}
        assert tags["zone"] == node["groupName"], name
        assert tags["pii"], name
        checks = node["assetChecksOrError"]["checks"]
        assert len(checks) >= 3, name
        assert all(check["blocking"] and check["description"] for check in checks), name


def _entry(node: Any, kind: str) -> Any:
    [found] = [entry for entry in node["metadataEntries"] if entry["__typename"] == kind]
    return found


def test_every_column_has_a_comment_and_personal_ones_a_tag(assets: dict[str, Any]) -> None:
    for name, node in _tables(assets).items():
        columns = _entry(node, "TableSchemaMetadataEntry")["schema"]["columns"]
        assert all(column["description"] and column["type"] for column in columns), name
    policies = load_policies([PACKAGED]).datasets
    for dataset, policy in policies.items():
        columns = _entry(assets[f"anonymized_{dataset}"], "TableSchemaMetadataEntry")["schema"]["columns"]
        tags = {column["name"]: {tag["key"]: tag["value"] for tag in column["tags"]} for column in columns}
        for field, output in policy.outputs().items():
            if policy.fields[field].pii != "none":
                assert tags[output]["pii"] == policy.fields[field].pii


def test_column_lineage_leads_to_columns_that_exist(assets: dict[str, Any]) -> None:
    columns = {
        name: {column["name"] for column in _entry(node, "TableSchemaMetadataEntry")["schema"]["columns"]}
        for name, node in _tables(assets).items()
    }
    for name, node in _tables(assets).items():
        if node["groupName"] == "raw":
            continue
        lineage = {
            entry["columnName"]: entry["columnDeps"]
            for entry in _entry(node, "TableColumnLineageMetadataEntry")["lineage"]
        }
        assert lineage.keys() >= columns[name] - {"anonymized_at"}, name
        for deps in lineage.values():
            for dep in deps:
                assert dep["columnName"] in columns[dep["assetKey"]["path"][-1]], (name, dep)


def test_what_was_done_to_each_field_is_a_table(assets: dict[str, Any]) -> None:
    for dataset, policy in load_policies([PACKAGED]).datasets.items():
        records = [
            json.loads(r) for r in _entry(assets[f"anonymized_{dataset}"], "TableMetadataEntry")["table"]["records"]
        ]
        assert {r["field"]: r["technique"] for r in records} == {
            name: field.technique.name for name, field in policy.fields.items()
        }


def test_no_run_stays_started_after_a_kill(dagster: Dagster, assets: dict[str, Any]) -> None:
    assert list(dagster.runs().values()) == ["FAILURE"]


def test_a_file_in_landing_becomes_a_run(dagster: Dagster, assets: dict[str, Any]) -> None:
    """The sensor is off until it is switched on; then the daemon launches the run, which reaches success."""
    nodes = dagster.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }")
    [repository] = nodes["repositoriesOrError"]["nodes"]
    selector = {
        "repositoryName": repository["name"],
        "repositoryLocationName": repository["location"]["name"],
        "sensorName": "landing_files",
    }
    state = dagster.ask(SENSOR, s=selector)["sensorOrError"]["sensorState"]
    assert state["status"] == "STOPPED"
    before = dagster.runs()
    someone = people(60)
    write(dagster.home.landing / "users.jsonl", someone)
    write(dagster.home.landing / "events.jsonl", events(someone, 600))
    started = dagster.ask(START, s=selector)["startSensor"]
    assert started["sensorState"]["status"] == "RUNNING", started

    def ended() -> dict[str, str]:
        state = dagster.ask(SENSOR, s=selector)["sensorOrError"]["sensorState"]
        assert not [tick["error"] for tick in state["ticks"] if tick["error"]], state
        new = {run: status for run, status in dagster.runs().items() if run not in before}
        return new if new and all(status in ("SUCCESS", "FAILURE", "CANCELED") for status in new.values()) else {}

    # Usually one run; two when one of the files was still too fresh at the first look.
    assert set(until(ended, seconds=150, every=1, what="the run to end").values()) == {"SUCCESS"}
    until(lambda: dagster.home.visible().get("analytics.product_metrics"), seconds=90, every=1, what="all tables")
    assert dagster.home.value("SELECT count(*) FROM anonymized.anonymized_events") == 600


def test_the_ui_shows_rows_and_checks_of_that_run(dagster: Dagster) -> None:
    nodes = {node["assetKey"]["path"][-1]: node for node in dagster.ask(LATEST)["assetNodes"]}
    for name in (table for tables in TABLES.values() for table in tables):
        [latest] = nodes[name]["assetMaterializations"]
        values = {entry["label"]: entry.get("intValue") for entry in latest["metadataEntries"]}
        assert values["dagster/row_count"] > 0, name
        statuses = {
            check["executionForLatestMaterialization"]["status"]
            for check in nodes[name]["assetChecksOrError"]["checks"]
        }
        assert statuses == {"SUCCEEDED"}, name


def test_it_ends_cleanly_on_sigterm(dagster: Dagster) -> None:
    """Last in this module."""
    family = dagster.process.family()
    assert len(family) >= 4
    dagster.process.process.send_signal(signal.SIGTERM)
    assert dagster.process.wait(60) == 0, dagster.process.said()
    until(lambda: not alive(family), seconds=40, every=0.2, what=f"no process left: {alive(family)}")
    said = dagster.process.said()
    assert "Traceback" not in said, said[-3000:]
