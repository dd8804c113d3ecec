"""Assets from policies: one factory a zone, each asset a release behind its gate.

An asset yields its check results whatever they are; when one has failed it raises `Failure`, so that the failed check
is on record, nothing is materialized and nothing downstream runs. A policy file that does not validate becomes assets
that fail with its message: nothing vanishes from the graph in silence.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from privacy_platform import settings
from privacy_platform.defs.failures import RETRIES, discreet_failures
from privacy_platform.defs.metadata import (
    check_results,
    check_specs,
    definition_metadata,
    privacy_metadata,
    report_metadata,
    technique_table,
)
from privacy_platform.defs.resources import SparkResource, WarehouseResource
from privacy_platform.engine import release_aggregate, release_anonymized, release_raw
from privacy_platform.engine.gate import GateError, ReleaseReport, Run
from privacy_platform.engine.release_windows import release_windows
from privacy_platform.engine.sources.files import landing_files
from privacy_platform.policy.compile import aggregate_table, anonymized_table, raw_table
from privacy_platform.policy.load import InvalidPolicy, PolicySet
from privacy_platform.policy.model import AggregatePolicy, DatasetPolicy
from privacy_platform.policy.tables import WHOLE, Partition, Table, Zone

KINDS = {"pyspark", "postgres"}
SPARK_POOL = "spark"
Outcome = dg.MaterializeResult[Any] | dg.AssetCheckResult


class LandingConfig(dg.Config):
    """Which landing files to land."""

    files: list[str] = Field(default_factory=list)
    """File names in the landing folder; all that fit the policy when empty."""


def build_assets(policies: PolicySet) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets of a set of policies."""
    partitions = daily_partitions(policies)
    tables = _tables(policies)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    for dataset in policies.datasets.values():
        assets += [
            _landing_spec(dataset),
            _raw_asset(dataset, partitions=partitions, tables=tables),
            _anonymized_asset(dataset, policies=policies, partitions=partitions, tables=tables),
        ]
    assets += [_aggregate_asset(policy, policies=policies, tables=tables) for policy in policies.aggregates.values()]
    assets += [asset for invalid in policies.invalid for asset in _invalid_assets(invalid)]
    return assets


def daily_partitions(policies: PolicySet) -> dg.DailyPartitionsDefinition:
    """One partitions definition for all daily datasets, so that they can be materialized in one run; today included."""
    starts = [p.partition_by.start for p in policies.datasets.values() if p.partition_by]
    return dg.DailyPartitionsDefinition(start_date=str(min(starts, default=date(2026, 1, 1))), end_offset=1)


def _tables(policies: PolicySet) -> dict[str, Table]:
    tables = [t for p in policies.datasets.values() for t in (raw_table(p), anonymized_table(p))]
    tables += [aggregate_table(p, policies) for p in policies.aggregates.values()]
    return {table.name: table for table in tables}


def _landing_spec(policy: DatasetPolicy) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=f"landing_{policy.dataset}",
        group_name="landing",
        description=f"Files named {' or '.join(policy.source.files)} (.jsonl, .csv, .parquet) in the landing folder.",
        kinds={"file"},
        owners=list(policy.owners),
        tags={"zone": "landing", "pii": "clear"},
    )


def _raw_asset(
    policy: DatasetPolicy, *, partitions: dg.DailyPartitionsDefinition, tables: Mapping[str, Table]
) -> dg.AssetsDefinition:
    table = tables[f"raw_{policy.dataset}"]
    key = dg.AssetKey(table.name)

    def raw(
        context: dg.AssetExecutionContext,
        config: LandingConfig,
        spark: SparkResource,
        warehouse: WarehouseResource,
    ) -> Iterator[Outcome]:
        def release(run: Run) -> ReleaseReport:
            warehouse.ready()
            folder, named = settings.landing(), frozenset(config.files)
            files = [path for path in landing_files(folder, policy.source.files) if not named or path.name in named]
            context.log.info("landing %d files", len(files))
            return release_raw.release_raw(
                spark.session,
                policy,
                files,
                run,
                selected=_selected(context, policy),
                landing_name=str(folder),
            )

        yield from _released(context, key, release)

    built: dg.AssetsDefinition = dg.asset(
        check_specs=check_specs(key, release_raw.CHECKS),
        **_arguments(table, policy.owners, _digest(policy), tables, "sealed"),
        **_partitioning(policy, partitions),
    )(raw)
    return built


def _anonymized_asset(
    policy: DatasetPolicy,
    *,
    policies: PolicySet,
    partitions: dg.DailyPartitionsDefinition,
    tables: Mapping[str, Table],
) -> dg.AssetsDefinition:
    table = tables[f"anonymized_{policy.dataset}"]
    key = dg.AssetKey(table.name)
    techniques = technique_table(policy)

    def anonymized(
        context: dg.AssetExecutionContext, spark: SparkResource, warehouse: WarehouseResource
    ) -> Iterator[Outcome]:
        def release(run: Run) -> ReleaseReport:
            warehouse.ready()
            return release_anonymized.release_anonymized(
                spark.session, policy, policies, run, selected=_selected(context, policy)
            )

        yield from _released(context, key, release, {"techniques": techniques})

    built: dg.AssetsDefinition = dg.asset(
        check_specs=check_specs(key, release_anonymized.check_names(policy)),
        **_arguments(table, policy.owners, _digest(policy), tables, "pseudonymous", techniques=techniques),
        **_partitioning(policy, partitions),
    )(anonymized)
    return built


def _aggregate_asset(
    policy: AggregatePolicy, *, policies: PolicySet, tables: Mapping[str, Table]
) -> dg.AssetsDefinition:
    table = tables[policy.aggregate]
    key = dg.AssetKey(table.name)
    privacy = privacy_metadata(policy)

    def aggregate(
        context: dg.AssetExecutionContext, spark: SparkResource, warehouse: WarehouseResource
    ) -> Iterator[Outcome]:
        def release(run: Run) -> ReleaseReport:
            warehouse.ready()
            if policy.window:
                return release_windows(policy, policies, run)
            return release_aggregate.release_aggregate(spark.session, policy, policies, run)

        yield from _released(context, key, release, privacy)

    built: dg.AssetsDefinition = dg.asset(
        check_specs=check_specs(key, release_aggregate.check_names(policy)),
        **_arguments(table, policy.owners, _digest(policy), tables, "aggregate", **privacy),
    )(aggregate)
    return built


def _invalid_assets(invalid: InvalidPolicy) -> list[dg.AssetsDefinition]:
    names = (
        [(Zone.ANALYTICS, invalid.name)]
        if invalid.is_aggregate
        else [(Zone.RAW, f"raw_{invalid.name}"), (Zone.ANONYMIZED, f"anonymized_{invalid.name}")]
    )
    return [_invalid_asset(zone, name, invalid.message) for zone, name in names]


def _invalid_asset(zone: Zone, name: str, message: str) -> dg.AssetsDefinition:
    safe = "".join(c if c.isalnum() or c == "_" else "_" for c in name)

    @dg.asset(
        name=safe,
        group_name=zone,
        description=f"Invalid policy. {message}",
        tags={"policy": "invalid"},
        kinds=KINDS,
    )
    def invalid() -> None:
        raise dg.Failure(description=message, allow_retries=False)

    return invalid


def _arguments(
    table: Table,
    owners: Sequence[str],
    digest: str,
    tables: Mapping[str, Table],
    pii: str,
    **metadata: Any,
) -> dict[str, Any]:
    return {
        "key": table.name,
        "deps": list(table.upstream),
        "group_name": table.zone.value,
        "description": table.comment,
        "kinds": KINDS,
        "owners": list(owners),
        "tags": {"zone": table.zone.value, "pii": pii},
        "code_version": digest,
        "metadata": {**definition_metadata(table, tables), **metadata},
        "retry_policy": RETRIES,
        "pool": SPARK_POOL,
    }


def _partitioning(policy: DatasetPolicy, partitions: dg.DailyPartitionsDefinition) -> dict[str, Any]:
    if policy.partition_by is None:
        return {}
    return {"partitions_def": partitions, "backfill_policy": dg.BackfillPolicy.single_run()}


def _selected(context: dg.AssetExecutionContext, policy: DatasetPolicy) -> Sequence[Partition]:
    if policy.partition_by is None:
        return (WHOLE,)
    start = policy.partition_by.start
    days = (date.fromisoformat(key) for key in context.partition_keys)
    return [Partition(day) for day in days if day >= start]


def _released(
    context: dg.AssetExecutionContext,
    key: dg.AssetKey,
    release: Callable[[Run], ReleaseReport],
    metadata: Mapping[str, Any] | None = None,
) -> Iterator[Outcome]:
    """Run a release and tell Dagster how it ended."""
    with discreet_failures(key.to_user_string()):
        try:
            report = release(Run(context.run_id))
        except GateError as error:
            yield from check_results(key, error.checks)
            raise dg.Failure(description=str(error), allow_retries=False) from None
    for warning in report.warnings:
        context.log.warning(warning)
    yield dg.MaterializeResult(
        asset_key=key,
        metadata={**report_metadata(report), **(metadata or {})},
        check_results=check_results(key, report.checks),
    )


def _digest(policy: DatasetPolicy | AggregatePolicy) -> str:
    return hashlib.sha256(policy.model_dump_json().encode()).hexdigest()[:12]


def today() -> date:
    """The current UTC day."""
    return datetime.now(UTC).date()


def landing_names(policy: DatasetPolicy, folder: Path) -> list[Path]:
    """The landing files of a dataset."""
    return landing_files(folder, policy.source.files)
