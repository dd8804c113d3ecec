"""Running assets from the command line: one Dagster run in this process, with its progress and its summary."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg
import psycopg
from dagster import AssetKey, DagsterEventType, DagsterInstance

from privacy_platform import settings
from privacy_platform.defs.assets import landing_names, today
from privacy_platform.defs.automation import (
    RANGE_END,
    RANGE_START,
    days_touched,
    standing_days,
    tables_without_data,
)
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.load import PolicySet
from privacy_platform.processes import has_ended, this_process
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import rows_read

Progress = Callable[[str, str], None]
_STATES = {
    DagsterEventType.STEP_START: "running",
    DagsterEventType.STEP_SUCCESS: "done",
    DagsterEventType.STEP_FAILURE: "failed",
    DagsterEventType.STEP_SKIPPED: "skipped",
}
_POLL_SECONDS = 0.3
PROCESS_TAG = "privacy_platform/process"


class RunError(PrivacyPlatformError):
    """A selection that names no asset."""


@dataclass(frozen=True)
class TableSummary:
    """What a run did to one table."""

    table: str
    zone: str
    status: str
    rows: int = 0
    seconds: float = 0.0
    checks: dict[str, bool] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True)
class RunSummary:
    """What a run did."""

    run_id: str
    succeeded: bool
    seconds: float
    tables: tuple[TableSummary, ...]


def materialize(
    definitions: dg.Definitions,
    policies: PolicySet,
    instance: DagsterInstance,
    selection: str,
    *,
    days: tuple[date, date] | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Materialize a selection in this process.

    Args:
        definitions: the assets.
        policies: the policies they were built from.
        instance: where the run is recorded.
        selection: Dagster's selection syntax, e.g. `key:raw_users+`, `raw_users,raw_events`, `group:raw`; `*` takes
            every table there is data for.
        days: first and last day for daily assets; by default every day in landing or in the raw zone.
        progress: told (table, state) as steps start and end.

    Raises:
        RunError: the selection is empty.
    """
    graph = definitions.resolve_asset_graph()
    try:
        # A list with commas as well, as `dagster asset materialize --select` takes it.
        parts = [part.strip() for part in selection.split(",")]
        chosen = dg.AssetSelection.from_coercible(parts).resolve(graph) & graph.materializable_asset_keys
    except Exception:  # Dagster's parser raises errors of its own kinds
        raise RunError(
            f"`{selection}` is not an asset selection; for example `key:raw_users+` or `group:anonymized`."
        ) from None
    if selection.strip() == "*":
        chosen -= {AssetKey(name) for name in tables_without_data(policies)}
        if not chosen:
            raise RunError(f"There is nothing to materialize: put a data file into {settings.landing()}.")
    if not chosen:
        raise RunError(f"`{selection}` selects no asset: `privacy-platform materialize '*'` takes all of them.")
    daily = {key for key in chosen if graph.get(key).partitions_def is not None}
    if days is not None:
        _require_days(policies, *days)
    days = days or (known_days(policies) if daily else None)
    if daily and days is None:
        chosen -= daily
    fail_abandoned_runs(instance)
    tags = {PROCESS_TAG: this_process()}
    tags |= {RANGE_START: str(days[0]), RANGE_END: str(days[1])} if days and daily else {}
    if not chosen:
        raise RunError("No day of data is in landing or in the raw zone: land a file first, or give --days.")
    job = definitions.resolve_implicit_job_def_def_for_assets(list(chosen))
    assert job is not None  # noqa: S101 - chosen assets exist
    run_id = str(uuid.uuid4())
    started = time.monotonic()
    with _watching(instance, run_id, progress):
        result = job.execute_in_process(
            instance=instance,
            asset_selection=list(chosen),
            tags=tags,
            run_id=run_id,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    tables = tuple(_table(instance, run_id, definitions, key) for key in _in_order(definitions, chosen))
    return RunSummary(run_id, result.success, round(time.monotonic() - started, 2), tables)


def _require_days(policies: PolicySet, first: date, last: date) -> None:
    """Refuse days that no partition has: Dagster would fail in words of its own, or enumerate them for ever."""
    start = min((p.partition_by.start for p in policies.datasets.values() if p.partition_by), default=first)
    if not start <= first <= last <= today():
        raise RunError(f"--days {first}..{last}: give a first and a last day within {start}..{today()}.")


def fail_abandoned_runs(instance: DagsterInstance) -> None:
    """Report runs of this command whose process is gone as failed: they would hold their pool's place for ever."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]), limit=100):
        if has_ended(run.tags.get(PROCESS_TAG, "")):
            instance.report_run_failed(run, "The process of this run has ended without a word.")


def known_days(policies: PolicySet) -> tuple[date, date] | None:
    """The first and the last day of data in the landing folder or in the raw zone."""
    found = {name: landing_names(policy, settings.landing()) for name, policy in policies.datasets.items()}
    days = days_touched(policies, found)
    for policy in policies.datasets.values():
        days |= standing_days(policy) if policy.partition_by else set()
    return (min(days), max(days)) if days else None


@contextmanager
def _watching(instance: DagsterInstance, run_id: str, progress: Progress | None) -> Iterator[None]:
    """Tell `progress` of the run's steps while the block runs."""
    if progress is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        cursor = None
        while True:
            last = ended.wait(_POLL_SECONDS)
            for table, rows in _rows_read().items():
                progress(table, f"running, {rows:,} rows read")
            page = instance.get_records_for_run(run_id, cursor=cursor, of_type=set(_STATES))
            cursor = page.cursor
            for record in page.records:
                event = record.event_log_entry.dagster_event
                if event is not None and event.step_key:
                    progress(event.step_key, _STATES[event.event_type])
            if last:
                return

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)


def _rows_read() -> dict[str, int]:
    try:
        with connect(Role.PIPELINE, connect_timeout=2, statement_timeout=2) as connection:
            return rows_read(connection)
    except (PrivacyPlatformError, psycopg.Error):
        return {}  # progress is a courtesy


def _in_order(definitions: dg.Definitions, chosen: set[AssetKey] | Any) -> list[AssetKey]:
    graph = definitions.resolve_asset_graph()
    return [key for key in graph.toposorted_asset_keys if key in chosen]


def _table(instance: DagsterInstance, run_id: str, definitions: dg.Definitions, key: AssetKey) -> TableSummary:
    """What the run's events say of one table."""
    name = key.to_user_string()
    zone = definitions.resolve_asset_graph().get(key).group_name
    status, message, rows, seconds = "skipped", "", 0, 0.0
    checks: dict[str, bool] = {}
    for record in instance.get_records_for_run(run_id, limit=None).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.is_step_failure and event.step_key == name:
            status, message = "failed", _failure(event.step_failure_data)
        if event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            # A warning is a check that was not made.
            if evaluation.asset_key == key and evaluation.severity is dg.AssetCheckSeverity.ERROR:
                checks[evaluation.check_name] = evaluation.passed
        if event.is_step_materialization and event.asset_key == key:
            metadata = event.step_materialization_data.materialization.metadata
            status, rows, seconds = (
                "published",
                _number(metadata, "dagster/row_count"),
                _number(metadata, "seconds"),
            )
    return TableSummary(name, zone, status, int(rows), float(seconds), checks, message)


def _number(metadata: Mapping[str, Any], name: str) -> Any:
    return metadata[name].value if name in metadata else 0


def _failure(data: Any) -> str:
    failure = data.user_failure_data
    return str(failure.description) if failure and failure.description else "see the run's log"
