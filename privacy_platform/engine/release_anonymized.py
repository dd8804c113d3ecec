"""Releasing an anonymized table: raw records in, through the policy's kernels, past the gate."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from psycopg import Connection
from pyspark.sql import SparkSession

from privacy_platform.anonymization.kanonymity.recoding import UnreachableError
from privacy_platform.engine.anonymity import anonymity_record, latest, stage_anonymous, warnings
from privacy_platform.engine.anonymize import AnonymizeTask, output_rules, record_splits
from privacy_platform.engine.gate import (
    Publication,
    ReleaseReport,
    Run,
    column_lineage,
    conclude,
    in_memory,
    pin,
    refuse,
    releasing,
    standing_partitions,
    unchanged,
)
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.stage import Statistics, run_stage, total
from privacy_platform.engine.standing import anonymized_again
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.governance import lineage
from privacy_platform.governance.lineage import LineageRecord
from privacy_platform.policy.compile import anonymized_table, raw_table
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.tables import WHOLE, Partition, Table
from privacy_platform.vault.keyring import load_keyring
from privacy_platform.vault.subjects import check_keyring
from privacy_platform.warehouse.checks import (
    K_ANONYMITY,
    NO_RAW_PII,
    ROW_COUNT_RECONCILED,
    SCHEMA_MATCHES_POLICY,
    TOKENS_RESOLVE,
    CheckOutcome,
    k_anonymity_check,
    not_run,
    raw_pii_check,
    reconciliation_check,
    schema_check,
    tokens_check,
    unreachable_check,
)
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import Release, indexing, open_staging, staged_partitions
from privacy_platform.warehouse.tables import count_rows, partition_name, partitions, table_columns


class UpstreamMissingError(PrivacyPlatformError):
    """A table this one is made from does not exist yet."""


def release_anonymized(
    spark: Callable[[], SparkSession],
    policy: DatasetPolicy,
    policies: PolicySet,
    run: Run,
    *,
    selected: Sequence[Partition] = (WHOLE,),
) -> ReleaseReport:
    """Anonymize the raw table of a dataset and publish the result.

    Args:
        spark: gives the session.
        policy: the dataset.
        policies: all policies, for the dataset this one refers to.
        run: the run this belongs to.
        selected: the days to anonymize, for a partitioned dataset.

    Raises:
        UpstreamMissingError: the raw table, or the table referred to, was never materialized.
        GateError: a check failed.
    """
    table, raw = anonymized_table(policy), raw_table(policy)
    reference = policies.datasets[policy.references.dataset] if policy.references else None
    with releasing(table) as connection:
        static = raw_pii_check(policy, {}, ())
        if not static.passed:  # nothing is even computed under a policy that publishes a personal value
            refuse(connection, table, run, policy.dataset, [static])
        upstream = (raw, *((raw_table(reference), anonymized_table(reference)) if reference else ()))
        require_upstream(connection, table, upstream)
        standing = standing_partitions(connection, raw, selected)
        emptied = sorted(set(standing_partitions(connection, table, selected)) - set(standing))
        if not standing and not emptied:
            if table_columns(connection, table.zone, table.name):
                checks = anonymized_again(connection, policy, _referred(policy, reference))
            else:
                checks = [not_run(name, f"there is no {table.qualified}") for name in check_names(policy)]
            return unchanged(connection, table, run, policy.dataset, checks)
        release = Release(table, tuple(standing))
        open_staging(connection, release)
        keyring = load_keyring()
        check_keyring(connection, keyring)
        joined = upstream[1:]
        pinned = pin(connection, {raw: standing} | {other: partitions(connection, other) for other in joined})
        # After pinning: what is released from now on is noticed in the end.
        behind = reference is not None and is_behind(connection, reference)
        looked_up = {other: count_rows(connection, other.zone, other.name) for other in joined}
        relations = [partition_name(raw, partition) for partition in standing]
        splits = record_splits(connection, policy, raw.zone, relations, parallelism=parallelism())
        connection.commit()
        task = AnonymizeTask(policy, release, run.id, datetime.now(UTC), reference, behind)
        before = latest(connection, table)
        statistics, found = Statistics(), None
        try:
            if splits and policy.privacy_model:
                statistics, found = stage_anonymous(spark(), splits, task, before)
            elif splits:
                statistics = total(run_stage(spark(), splits, task))
        except UnreachableError as unreachable:
            refuse(connection, table, run, policy.dataset, [unreachable_check(unreachable)])
        filled = staged_partitions(connection, release)
        emptied = sorted({*emptied, *(set(standing) - set(filled))})
        with indexing(release, filled):
            checks = anonymized_checks(connection, policy, release, statistics, reference)
            record = anonymity_record(connection, policy, release, run, found, checks) if found else None
            connection.commit()
        publication = Publication(
            dataset=policy.dataset,
            lineage=tuple(arrows(policy, release, run, {raw: statistics["read"]} | looked_up, statistics["published"])),
            quarantine_stage="anonymizing",
            quarantine_sources=tuple(f"raw.{partition_name(raw, partition)}" for partition in standing),
            keys_used=(f"token/v{keyring.pinned}", f"hmac/v{keyring.pinned}", "sealing", "release salt"),
            anonymity=record,
            risk=found.risk if found else None,
            warnings=warnings(record, before) if record else (),
        )
        return conclude(
            connection,
            release,
            run,
            publication,
            filled=filled,
            emptied=emptied,
            checks=checks,
            statistics=statistics,
            rows=statistics["published"],
            upstream=pinned,
        )


def require_upstream(connection: Connection, table: Table, upstream: Sequence[Table]) -> None:
    """See that the tables that `table` is made from stand, as their policies say.

    Raises:
        UpstreamMissingError: one does not.
    """
    for source in upstream:
        standing = dict(table_columns(connection, source.zone, source.name))
        if not standing:
            raise UpstreamMissingError(f"{table.name} is made from {source.name}: materialize {source.name} first.")
        missing = [column.name for column in source.columns if standing.get(column.name) != column.type.value]
        if missing:
            raise UpstreamMissingError(
                f"{table.name} needs column `{missing[0]}` of {source.name}, which was made under another policy: "
                f"materialize {source.name} again first."
            )


def is_behind(connection: Connection, reference: DatasetPolicy) -> bool:
    """Whether the subjects referred to have landed since they were anonymized last."""
    landed, shown = (
        lineage.entries(connection, target=table.qualified, limit=1)
        for table in (raw_table(reference), anonymized_table(reference))
    )
    return bool(landed) and (not shown or landed[0].lineage_id > shown[0].lineage_id)


def arrows(
    policy: DatasetPolicy, release: Release, run: Run, read: Mapping[Table, int], written: int
) -> Iterator[LineageRecord]:
    """An arrow from every table read, with its rows: columns come from the raw one, the others say which rows."""
    for source, rows in read.items():
        own = source == raw_table(policy)
        yield LineageRecord(
            source=source.qualified,
            target=release.table.qualified,
            transformation=f"anonymize: policy {policy.dataset}" if own else f"look up {policy.subject}",
            records_in=rows,
            records_out=written,
            run_id=run.id,
            column_lineage=column_lineage(release.table) if own else {},
        )


def check_names(policy: DatasetPolicy) -> tuple[str, ...]:
    """The checks an anonymized table goes through."""
    names = (SCHEMA_MATCHES_POLICY, NO_RAW_PII, ROW_COUNT_RECONCILED, TOKENS_RESOLVE)
    return (*names, K_ANONYMITY) if policy.privacy_model else names


def _waiting(reference: DatasetPolicy) -> str:
    """What to do about records of subjects that have landed but are not in the published table yet.

    They are left out and not refused: to land people again, the same ones or others, must not stop their records. Nor
    are they counted as suppressed, which would be for good. Those suppressed by the last release are among them, since
    the new records may not be.
    """
    raw, shown = raw_table(reference).name, anonymized_table(reference).name
    older = f"; those waiting are of subjects not in {shown}, which is older than {raw}"
    return f"{older}: materialize {shown}, then this again"


def _referred(policy: DatasetPolicy, reference: DatasetPolicy | None) -> Table | None:
    """The published table that every token must be in, where unknown subjects are quarantined."""
    quarantining = policy.references is not None and policy.references.unknown == "quarantine"
    return anonymized_table(reference) if reference and quarantining else None


def anonymized_checks(
    connection: Connection,
    policy: DatasetPolicy,
    release: Release,
    statistics: Statistics,
    reference: DatasetPolicy | None,
) -> list[CheckOutcome]:
    """The checks of a staged anonymized table; adds `published` to the statistics."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="anonymity") as pool:
        # Beside the others: with the keys that are built meanwhile there is work for two processors to the end.
        anonymous = pool.submit(_anonymous, policy, release, statistics["suppressed_for_k"])
        tokens = tokens_check(connection, release, policy.token_column, referred=_referred(policy, reference))
    statistics["published"] = int(tokens.figures["rows"])
    return [
        schema_check(connection, release, {}, None),
        raw_pii_check(policy, statistics, tuple(output_rules(policy))),
        reconciliation_check(
            {
                "read": statistics["read"],
                "published": statistics["published"],
                "quarantined": statistics["quarantined"],
                "suppressed": statistics["suppressed"] + statistics["suppressed_for_k"],
                "erased": statistics["erased"],
                "waiting": statistics["waiting"],
            },
            remark=_waiting(reference) if reference and statistics["waiting"] else "",
        ),
        tokens,
        *anonymous.result(),
    ]


def _anonymous(policy: DatasetPolicy, release: Release, suppressed: int) -> list[CheckOutcome]:
    if not policy.privacy_model:
        return []
    with connect(Role.PIPELINE) as connection:
        in_memory(connection)
        return [k_anonymity_check(connection, release, policy, suppressed)]
