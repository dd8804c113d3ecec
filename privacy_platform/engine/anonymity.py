"""What a release with a privacy model does beyond others: search, record what was found, compare with the last."""

from collections.abc import Sequence

from psycopg import Connection
from pyspark.sql import SparkSession

from privacy_platform.anonymization.kanonymity.recoder import NOTHING
from privacy_platform.engine.anonymize import AnonymizeTask
from privacy_platform.engine.gate import Run
from privacy_platform.engine.recode import copy_recoded, prepared
from privacy_platform.engine.sources.zone import ZoneSplit
from privacy_platform.engine.stage import Statistics
from privacy_platform.governance import anonymity
from privacy_platform.governance.anonymity import AnonymityRecord, StoredAnonymity
from privacy_platform.policy.anonymity import Anonymization, anonymize
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.tables import Table
from privacy_platform.warehouse.checks import K_ANONYMITY, CheckOutcome
from privacy_platform.warehouse.intersection import intersect_tables
from privacy_platform.warehouse.release import STAGING, Release
from privacy_platform.warehouse.tables import table_columns


def latest(connection: Connection, table: Table) -> StoredAnonymity | None:
    """The register's entry of the release that stands."""
    entries = anonymity.releases(connection, table.qualified)
    connection.commit()
    return entries[0] if entries else None


def stage_anonymous(
    spark: SparkSession, splits: Sequence[ZoneSplit], task: AnonymizeTask, before: StoredAnonymity | None
) -> tuple[Statistics, Anonymization | None]:
    """Stage records that are anonymous together: read once, searched on their counts, recoded, copied.

    Raises:
        UnreachableError: the policy's demands cannot be met; nothing was staged.
    """
    with prepared(spark, splits, task) as records:
        found = None
        if not records.counts.is_empty():
            found = anonymize(task.policy, records.counts, before.levels if before else None)
        statistics = records.statistics + copy_recoded(records, found.recoder if found else NOTHING)
    # What the search has decided, and not what is missing: a record lost on the way is unaccounted for.
    statistics["suppressed_for_k"] = found.suppressed if found else 0
    return statistics, found


def anonymity_record(
    connection: Connection,
    policy: DatasetPolicy,
    release: Release,
    run: Run,
    found: Anonymization,
    checks: Sequence[CheckOutcome],
) -> AnonymityRecord:
    """The register's entry of a staged release: what was found, and what the checks have measured."""
    model = policy.privacy_model
    assert model is not None  # noqa: S101 - nothing is searched without a model
    measured = next(check.figures for check in checks if check.name == K_ANONYMITY)
    return AnonymityRecord(
        run_id=run.id,
        target=release.table.qualified,
        recoding=found.recoding,
        requirements=model.model_dump(mode="json", exclude_none=True),
        levels=found.levels,
        loss=found.loss,
        column_losses=found.column_losses,
        records=found.records,
        suppressed=found.suppressed,
        classes=found.classes,
        measured={name: value for name, value in measured.items() if not isinstance(value, str)},
        exposed_by_intersection=_exposed(connection, release, model.quasi_identifiers, model.k),
    )


def _exposed(connection: Connection, release: Release, quasi_identifiers: Sequence[str], k: int) -> int | None:
    """People whom the standing release and this one together place in a group smaller than k."""
    table = release.table
    standing = {name for name, _ in table_columns(connection, table.zone, table.name)}
    if not {*table.key, *quasi_identifiers} <= standing:
        return None
    old, new = (table.zone.value, table.name), (STAGING, release.staging)
    return intersect_tables(connection, old, new, table.key[0], quasi_identifiers, k).exposed


def warnings(record: AnonymityRecord, before: StoredAnonymity | None) -> tuple[str, ...]:
    """What readers must know of the change: a column at another level, people exposed by comparing releases."""
    told = []
    if before and record.recoding == before.recoding == "global":
        told = [
            f"`{name}` is published by {level} now and was by {before.levels[name]}: queries that group or filter by "
            "it mean something else; pin its level in the policy if that must not happen"
            for name, level in record.levels.items()
            if name in before.levels and before.levels[name] != level
        ]
    if record.exposed_by_intersection:
        told.append(
            f"{record.exposed_by_intersection} people are in a group smaller than the policy's k for whoever kept the "
            "release before and compares it with this one; release less often, or pin levels"
        )
    return tuple(told)
