"""What Dagster shows of a table: schema, lineage, the fate of each field, figures. Names and counts, never values."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from privacy_platform.anonymization.risk.metadata import combinations_markdown, risk_metadata
from privacy_platform.anonymization.risk.plot import plot_markdown
from privacy_platform.anonymization.risk.report import RiskReport
from privacy_platform.engine.gate import ReleaseReport
from privacy_platform.governance.anonymity import AnonymityRecord
from privacy_platform.policy.compile import SEALED
from privacy_platform.policy.explanation import in_words, promised_errors
from privacy_platform.policy.model import AggregatePolicy, DatasetPolicy
from privacy_platform.policy.private import plan_of
from privacy_platform.policy.tables import Table
from privacy_platform.warehouse.checks import DESCRIPTIONS, CheckOutcome

MetadataValue = dg.MetadataValue


def definition_metadata(table: Table, upstream: Mapping[str, Table]) -> dict[str, Any]:
    """Metadata of the asset itself, known from the policy alone."""
    return {
        "dagster/table_name": table.qualified,
        "dagster/column_schema": column_schema(table),
        "dagster/column_lineage": column_lineage(table, upstream),
    }


def column_schema(table: Table) -> dg.TableSchema:
    """Columns with comment, and a tag that says whether and how a column is personal."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type.value,
                description=column.comment,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable and column.name not in table.primary_key,
                    unique=table.primary_key == (column.name,),
                ),
                tags={"pii": column.pii, "sensitivity": column.sensitivity},
            )
            for column in table.columns
        ]
    )


def column_lineage(table: Table, upstream: Mapping[str, Table]) -> dg.TableColumnLineage:
    """For each column, the upstream assets' columns it is computed from."""
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for column in table.columns:
        for source in column.sources:
            asset, _, name = source.partition(".")
            deps.setdefault(column.name, []).append(dg.TableColumnDep(asset_key=dg.AssetKey(asset), column_name=name))
    return dg.TableColumnLineage(deps_by_column=deps)


def technique_table(policy: DatasetPolicy) -> dg.TableMetadataValue:
    """What was done to each field."""
    outputs = policy.outputs()
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "field": name,
                    "read from": f"raw_{policy.dataset}.{SEALED if field.sensitivity.sealed else name}",
                    "pii": field.pii,
                    "sensitivity": str(field.sensitivity),
                    "technique": field.technique.name,
                    "published as": outputs.get(name, "(not published)"),
                }
            )
            for name, field in policy.fields.items()
        ]
    )


def privacy_metadata(policy: AggregatePolicy) -> dict[str, Any]:
    """What a private table hides and promises, settled before any data is read; nothing of an exact one."""
    if not policy.is_private:
        return {}
    plan = plan_of(policy)
    promised = promised_errors(policy, plan)
    return {
        "privacy": MetadataValue.md("\n".join(f"- {sentence}" for sentence in in_words(policy, plan))),
        "privacy/epsilon": plan.loss.epsilon,
        "privacy/delta": plan.loss.delta,
        "privacy/noise": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "query": planned.query.name,
                        "measure": planned.query.measure,
                        "sensitivity (L1)": planned.l1 * planned.query.step,
                        "scale": planned.unit_scale,
                        "95 % error": planned.error_95,
                    }
                )
                for planned in plan.queries.values()
            ]
        ),
        "privacy/promised 95 % error": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "figure": figure,
                        **{f"of {size:,} people": "-" if e is None else f"{e:.4g}" for size, e in errors.items()},
                    }
                )
                for figure, errors in promised.items()
            ]
        ),
    }


def report_metadata(report: ReleaseReport) -> dict[str, Any]:
    """Metadata of one materialization."""
    figures = {name.replace("_", " "): count for name, count in sorted(report.statistics.items()) if "." not in name}
    return {
        "dagster/row_count": report.table_rows,
        "dagster/column_schema": column_schema(report.table),
        "dagster/column_lineage": column_lineage(report.table, {}),
        "released": report.released,
        "released rows": report.rows,
        "released partitions": len(report.partitions),
        "seconds": round(report.seconds, 2),
        **figures,
        **(anonymity_metadata(report.anonymity) if report.anonymity else {}),
        **(_risk_metadata(report.risk) if report.risk else {}),
        **(
            {"warnings": MetadataValue.md("\n".join(f"- {text}" for text in report.warnings))}
            if report.warnings
            else {}
        ),
    }


def anonymity_metadata(release: AnonymityRecord) -> dict[str, Any]:
    """What the table as a whole satisfies, and what that cost each quasi-identifier."""
    return {
        "recoding": release.recoding,
        "information loss (NCP)": round(release.loss, 5),
        "equivalence classes": release.classes,
        **(
            {}
            if release.exposed_by_intersection is None
            else {"exposed by intersection with the release before": release.exposed_by_intersection}
        ),
        "generalization": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "quasi-identifier": name,
                        "level": _level_text(level),
                        "NCP": round(release.column_losses[name], 5),
                    }
                )
                for name, level in release.levels.items()
            ]
        ),
    }


def _risk_metadata(report: RiskReport) -> dict[str, Any]:
    """What can still be learned about a person, with a plot of the classes' sizes."""
    return {
        **risk_metadata(report),
        "risk/class sizes": MetadataValue.md(plot_markdown(report)),
        "risk/identifying combinations": MetadataValue.md(combinations_markdown(report)),
    }


def _level_text(level: object) -> str:
    """A level, or how many records have each."""
    if not isinstance(level, Mapping):
        return str(level)
    return ", ".join(f"{name} {share:.1%}" for name, share in level.items() if share)


def check_specs(asset: dg.AssetKey, names: Sequence[str]) -> list[dg.AssetCheckSpec]:
    """The specs of the given checks, all blocking."""
    return [dg.AssetCheckSpec(name=name, asset=asset, description=DESCRIPTIONS[name], blocking=True) for name in names]


def check_results(asset: dg.AssetKey, outcomes: Sequence[CheckOutcome]) -> list[dg.AssetCheckResult]:
    """Outcomes as Dagster's results."""
    return [
        dg.AssetCheckResult(
            asset_key=asset,
            check_name=outcome.name,
            passed=outcome.passed,
            # A check that was not made is shown as a warning: not passed, and it stops nothing.
            severity=dg.AssetCheckSeverity.ERROR if outcome.ran else dg.AssetCheckSeverity.WARN,
            description=outcome.message,
            metadata=dict(outcome.figures),
        )
        for outcome in outcomes
    ]
