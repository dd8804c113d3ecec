"""What starts runs by itself: the landing sensor, and a daily schedule that is off by default.

The sensor's cursor maps each landing file to the version last requested, so every version of a file starts a run once.
It reads the days an event file holds, never anything else of it, and puts only file names and days into the run. A look
takes a bounded number of files and bytes, for Dagster ends one that takes too long: what is left is for the next.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import dagster as dg

from privacy_platform import settings
from privacy_platform.defs.assets import landing_names, today
from privacy_platform.engine.sources.files import SourceError, days_in_file
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.compile import raw_table
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.migrations import ensure_warehouse
from privacy_platform.warehouse.tables import partitions, table_columns

SETTLED_SECONDS = 2.0
# Of so many files and bytes the days are found by reading them; more are landed for all days, or in several looks.
SCANNED_FILES, SCANNED_BYTES = 10_000, 2**30
UNREADABLE_FILES = 20
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def landing_sensor(policies: PolicySet) -> dg.SensorDefinition:
    """Requests a run for the files that are new, or new versions, since the last look."""

    @dg.sensor(
        name="landing_files",
        target=dg.AssetSelection.all(),
        minimum_interval_seconds=10,
        description="New or changed files in the landing folder start the run of their dataset and all downstream.",
    )
    def landing_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen: dict[str, str] = _cursor(context.cursor)
        requests, versions = run_requests(policies, _new_and_next(policies, seen))
        if not requests:
            return dg.SkipReason(f"Nothing new in {settings.landing()}.")
        there = {path.name for path in settings.landing().iterdir()}
        kept = {name: last for name, last in seen.items() if name in there}
        return dg.SensorResult(run_requests=requests, cursor=json.dumps(kept | versions, sort_keys=True))

    return landing_files


def _cursor(text: str | None) -> dict[str, str]:
    """The versions seen; a cursor that cannot be read counts as none, which lands files again: that changes nothing."""
    try:
        seen = json.loads(text) if text else {}
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in seen.items()} if isinstance(seen, dict) else {}


def version(path: Path) -> str:
    """What tells one version of a file from the next."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def new_files(policy: DatasetPolicy, seen: Mapping[str, str]) -> list[Path]:
    """Files of a dataset in a version not seen yet; a file still being written waits for the next look."""
    settled = time.time() - SETTLED_SECONDS
    return [
        path
        for path in landing_names(policy, settings.landing())
        if seen.get(path.name) != version(path) and path.stat().st_mtime < settled
    ]


def _new_and_next(policies: PolicySet, seen: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """(dataset, file) of what is new, as much of it as one look takes, but one at the least."""
    new = [(dataset, path) for dataset, policy in policies.datasets.items() for path in new_files(policy, seen)]
    size = 0
    for number, (dataset, path) in enumerate(new[:SCANNED_FILES]):
        size += path.stat().st_size
        if number and size > SCANNED_BYTES:
            return
        yield dataset, path


def run_requests(policies: PolicySet, new: Iterable[tuple[str, Path]]) -> tuple[list[dg.RunRequest], dict[str, str]]:
    """One run for all new files, and one for each that cannot be read, so that it fails alone and with its name.

    Args:
        policies: all policies.
        new: dataset and file.

    Returns:
        The runs, and the version of every file that they are for: fewer than are new if many cannot be read.
    """
    found: dict[str, list[Path]] = {}
    unreadable: list[tuple[str, Path]] = []
    versions: dict[str, str] = {}
    days: set[date] = set()
    for dataset, path in new:
        if len(unreadable) == UNREADABLE_FILES:
            break
        versions[path.name] = version(path)
        try:
            days |= days_of_files(policies.datasets[dataset], [path])
            found.setdefault(dataset, []).append(path)
        except SourceError:
            unreadable.append((dataset, path))
    requests = []
    if found:
        days |= standing_days_touched(policies, list(found))
        own = {path.name: versions[path.name] for files in found.values() for path in files}
        requests.append(run_request(policies, found, own, days))
    for dataset, path in unreadable:  # on some day, for its run will fail before it looks at any
        requests.append(run_request(policies, {dataset: [path]}, {path.name: versions[path.name]}, {today()}))
    return requests, versions


def run_request(
    policies: PolicySet, found: Mapping[str, Sequence[Path]], versions: Mapping[str, str], days: set[date]
) -> dg.RunRequest:
    """The run for the given new files: their raw tables and everything that is made from them, on the given days."""
    if not days and any(policies.datasets[name].partition_by for name in found):
        days = {today()}  # no row with a day: its bad rows still belong into quarantine
    names = selected_tables(policies, list(found), partitioned=bool(days))
    config = {
        f"raw_{dataset}": {"config": {"files": [path.name for path in files]}}
        for dataset, files in found.items()
        if f"raw_{dataset}" in names
    }
    tags = {RANGE_START: str(min(days)), RANGE_END: str(max(days))} if days else {}
    key = hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()
    return dg.RunRequest(
        run_key=key,
        asset_selection=[dg.AssetKey(name) for name in names],
        run_config={"ops": config},
        tags=tags,
    )


def selected_tables(policies: PolicySet, datasets: Sequence[str], *, partitioned: bool) -> list[str]:
    """The raw tables of the datasets and all tables downstream of them; daily ones only where days are known."""
    tables = {f"raw_{name}" for name in datasets} | {f"anonymized_{name}" for name in datasets}
    tables |= {
        f"anonymized_{name}"
        for name, policy in policies.datasets.items()
        if policy.references and policy.references.dataset in datasets
    }
    if not partitioned:
        tables -= {f"{z}_{n}" for n, p in policies.datasets.items() if p.partition_by for z in ("raw", "anonymized")}
    tables |= {
        name
        for name, policy in policies.aggregates.items()
        if policy.source in tables or (policy.join is not None and policy.join.table in tables)
    }
    if not partitioned:
        daily = {f"anonymized_{name}" for name, p in policies.datasets.items() if p.partition_by}
        tables -= {name for name, policy in policies.aggregates.items() if policy.source in daily}
    return sorted(tables)


def days_touched(policies: PolicySet, found: Mapping[str, Sequence[Path]]) -> set[date]:
    """The days a run has to compute: those in the new files, and the standing ones that refer to a new dataset.

    Raises:
        SourceError: a file that has to be read cannot be.
    """
    days = {day for dataset, files in found.items() for day in days_of_files(policies.datasets[dataset], files)}
    return days | standing_days_touched(policies, list(found))


def days_of_files(policy: DatasetPolicy, files: Sequence[Path]) -> set[date]:
    """The days that occur in files of a dataset; the first and last there can be, where they are too large to read.

    Raises:
        SourceError: a file cannot be read.
    """
    rule = policy.partition_by
    if rule is None:
        return set()
    if len(files) > SCANNED_FILES or sum(path.stat().st_size for path in files) > SCANNED_BYTES:
        return {rule.start, today()}
    column = policy.fields[rule.field].column or rule.field
    return {day for path in files for day in days_in_file(path, column) if rule.start <= day <= today()}


def standing_days_touched(policies: PolicySet, datasets: Sequence[str]) -> set[date]:
    """The standing days of daily datasets that refer to one of some datasets."""
    touched = (p for p in policies.datasets.values() if p.partition_by and p.references)
    return {day for p in touched if p.references and p.references.dataset in datasets for day in standing_days(p)}


def standing_days(policy: DatasetPolicy) -> set[date]:
    """The days of a dataset that have landed."""
    try:
        ensure_warehouse()
        with connect(Role.PIPELINE) as connection:
            return {p.day for p in partitions(connection, raw_table(policy)) if p.day is not None}
    except PrivacyPlatformError:
        return set()


def tables_without_data(policies: PolicySet) -> set[str]:
    """Tables of datasets that have neither a landing file nor a raw table, and what is made from them.

    Who brings only data of their own has no use for the packaged datasets: taking everything leaves those out.
    """
    empty = {
        f"anonymized_{name}": name
        for name, policy in policies.datasets.items()
        if not landing_names(policy, settings.landing()) and not _stands(policy)
    }
    for name, policy in policies.datasets.items():
        if policy.references and f"anonymized_{policy.references.dataset}" in empty:
            empty[f"anonymized_{name}"] = name
    aggregates = {
        name
        for name, policy in policies.aggregates.items()
        if policy.source in empty or (policy.join is not None and policy.join.table in empty)
    }
    bare = {f"raw_{name}" for name in empty.values() if not landing_names(policies.datasets[name], settings.landing())}
    return {*empty, *aggregates, *bare}


def _stands(policy: DatasetPolicy) -> bool:
    table = raw_table(policy)
    try:
        ensure_warehouse()
        with connect(Role.PIPELINE) as connection:
            return bool(table_columns(connection, table.zone, table.name))
    except PrivacyPlatformError:
        return False


def daily_schedule(policies: PolicySet) -> dg.ScheduleDefinition:
    """Materializes everything for yesterday and today, at three in the morning; off until switched on."""

    @dg.schedule(
        name="daily",
        cron_schedule="0 3 * * *",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Everything, with yesterday's and today's partitions, at 03:00 UTC.",
    )
    def daily() -> dg.RunRequest:
        tables = {f"{zone}_{name}" for name in policies.datasets for zone in ("raw", "anonymized")}
        chosen = (tables | set(policies.aggregates)) - tables_without_data(policies)
        return dg.RunRequest(
            asset_selection=[dg.AssetKey(name) for name in sorted(chosen)],
            tags={RANGE_START: str(today() - timedelta(days=1)), RANGE_END: str(today())},
        )

    return daily
