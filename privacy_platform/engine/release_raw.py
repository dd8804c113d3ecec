"""Releasing a raw table: landing files in, sealed records merged with those that stand.

A record is found by its key. Landing a file twice changes nothing: of two records with one key, the later one wins
(`on_duplicate: last`) or the first one stays (`first`), within a landing as between landings.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from psycopg import Connection, errors, sql
from pyspark.sql import SparkSession

from privacy_platform.engine.ahead import drop_abandoned
from privacy_platform.engine.gate import (
    Publication,
    ReleaseReport,
    Run,
    column_lineage,
    conclude,
    releasing,
    unchanged,
)
from privacy_platform.engine.land import LandTask
from privacy_platform.engine.repeats import drop_repeats, open_digests
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.sources.files import FileSplit
from privacy_platform.engine.sources.splits import FileGroup, file_splits
from privacy_platform.engine.stage import Statistics, run_stage, total
from privacy_platform.engine.standing import raw_again
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.governance.lineage import LineageRecord
from privacy_platform.policy.compile import raw_table
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.tables import WHOLE, Partition, Table
from privacy_platform.vault.keyring import load_keyring
from privacy_platform.vault.subjects import check_keyring
from privacy_platform.warehouse.checks import (
    DATA_MATCH_POLICY,
    ROW_COUNT_RECONCILED,
    SCHEMA_MATCHES_POLICY,
    TOKENS_RESOLVE,
    CheckOutcome,
    drift_check,
    reconciliation_check,
    schema_check,
    tokens_check,
)
from privacy_platform.warehouse.release import (
    STAGING,
    Release,
    drop_indexes,
    indexing,
    open_staging,
    staged_partitions,
)
from privacy_platform.warehouse.tables import (
    TableMismatchError,
    count_rows,
    expected_shape,
    partition_name,
    partitions,
    standing_shape,
    table_columns,
)

CHECKS = (SCHEMA_MATCHES_POLICY, DATA_MATCH_POLICY, ROW_COUNT_RECONCILED, TOKENS_RESOLVE)


class NothingLandedError(PrivacyPlatformError):
    """There is no file to land and no table that stands."""


def release_raw(
    spark: Callable[[], SparkSession],
    policy: DatasetPolicy,
    files: Sequence[Path],
    run: Run,
    *,
    selected: Sequence[Partition] = (WHOLE,),
    landing_name: str = "the landing folder",
) -> ReleaseReport:
    """Land `files` and publish the raw table of a dataset.

    Args:
        spark: gives the session; not called when there is nothing to land.
        policy: the dataset.
        files: the landing files, oldest first.
        run: the run this belongs to.
        selected: the days to land, for a partitioned dataset.
        landing_name: the landing folder's name for messages.

    Raises:
        NothingLandedError: there is nothing to land and nothing stands.
        GateError: a check failed.
    """
    table = raw_table(policy)
    with releasing(table) as connection:
        drop_abandoned(connection, policy)
        splits = file_splits(files, parallelism=parallelism(), whole=policy.source.position is not None)
        if not splits:
            return _nothing_new(connection, policy, table, run, landing_name)
        _require_same_columns(connection, table)
        keyring = load_keyring()
        check_keyring(connection, keyring)
        now = datetime.now(UTC)
        release = Release(table, tuple(selected))
        open_staging(connection, release)
        open_digests(connection, release)
        task = LandTask(policy, release, run.id, now, now.date(), vault_empty=_vault_empty(connection))
        answers = run_stage(spark(), splits, task)
        statistics = total(answers)
        _place_lines(connection, release, splits, answers)
        filled = _merge(connection, policy, release, statistics)
        checks = _indexed_and_checked(connection, policy, release, filled, statistics)
        sources = tuple(dict.fromkeys(name for split in splits for name in split.names))
        publication = Publication(
            dataset=policy.dataset,
            lineage=(
                LineageRecord(
                    source=f"landing_{policy.dataset}",
                    target=table.qualified,
                    transformation="land: tokenize, seal",
                    records_in=statistics["read"],
                    records_out=statistics["new"],
                    run_id=run.id,
                    column_lineage=column_lineage(table),
                ),
            ),
            quarantine_stage="landing",
            quarantine_sources=sources,
            keys_used=(f"token/v{keyring.pinned}", f"sealing/v{keyring.current}"),
        )
        return conclude(
            connection,
            release,
            run,
            publication,
            filled=filled,
            checks=checks,
            statistics=statistics,
            rows=statistics["new"] + statistics["kept"],
        )


def _require_same_columns(connection: Connection, table: Table) -> None:
    """Standing records are carried over as they are, so they must have the policy's columns already.

    Raises:
        TableMismatchError: they have others.
    """
    standing, expected = standing_shape(connection, table), expected_shape(table)
    if standing is None or standing.same_rows(expected):
        return
    differing = {column[:2] for column in standing.columns} ^ {column[:2] for column in expected.columns}
    what = f"see its column `{min(differing)[0]}`" if differing else "see its key and what it is partitioned by"
    raise TableMismatchError(
        f"{table.qualified} was landed under another policy ({what}), and sealed records cannot be rewritten: drop the "
        "table and land its files again, or give the dataset of the new policy another name."
    )


def _vault_empty(connection: Connection) -> bool:
    row = connection.execute("SELECT NOT EXISTS (SELECT 1 FROM vault.subjects)").fetchone()
    connection.commit()
    return row == (True,)


def _nothing_new(
    connection: Connection, policy: DatasetPolicy, table: Table, run: Run, landing_name: str
) -> ReleaseReport:
    if not table_columns(connection, table.zone, table.name):
        patterns = " or ".join(f"`{pattern}`" for pattern in policy.source.files)
        raise NothingLandedError(
            f"There is no file named {patterns} (.jsonl, .csv or .parquet) in {landing_name}: put one there."
        )
    return unchanged(connection, table, run, policy.dataset, raw_again(connection, policy))


def _place_lines(
    connection: Connection,
    release: Release,
    splits: Sequence[FileSplit | FileGroup],
    answers: Sequence[Statistics],
) -> None:
    """Turn `split:line` of the staged quarantine into the line of the file, counted from 1; groups know theirs."""
    bases: dict[int, int] = {}
    lines: dict[str, int] = {}
    for split, statistics in zip(splits, answers, strict=True):
        if isinstance(split, FileGroup):
            continue
        before = lines.get(split.name, 1 if split.format == "csv" else 0)
        bases[split.index] = before + 1
        lines[split.name] = before + statistics["read"]
    if not any(statistics["quarantined"] for statistics in answers):
        return
    connection.execute(
        sql.SQL(
            "UPDATE {} q SET position = (b.base + split_part(q.position, ':', 2)::bigint)::text "
            "FROM unnest(%s::text[], %s::bigint[]) AS b(split, base) "
            "WHERE q.position LIKE '%%:%%' AND split_part(q.position, ':', 1) = b.split"
        ).format(sql.Identifier(STAGING, release.quarantine)),
        [[str(index) for index in bases], list(bases.values())],
    )
    connection.commit()


def _merge(connection: Connection, policy: DatasetPolicy, release: Release, statistics: Statistics) -> list[Partition]:
    """Leave in staging what the partitions will hold: the new records, and those that stand and are not replaced."""
    table = release.table
    standing = bool(table_columns(connection, table.zone, table.name))
    if standing:
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(STAGING, release.staging)))
    if policy.on_duplicate == "first":
        statistics["duplicates"] += drop_repeats(connection, release, "min", digested=statistics["staged"])
        if standing:
            statistics["already_landed"] += drop_standing(connection, release)
    filled = staged_partitions(connection, release)
    if standing:
        _carry_over(connection, release, filled, statistics, policy.token_column)
    return filled


def _indexed_and_checked(
    connection: Connection,
    policy: DatasetPolicy,
    release: Release,
    filled: Sequence[Partition],
    statistics: Statistics,
) -> list[CheckOutcome]:
    """Build the keys and run the checks, side by side; records that repeat a key are dropped when the key meets one.

    Repeats are rare: looking for them in every landing would cost more than to begin again in a few.
    """
    try:
        with indexing(release, filled):
            checks = raw_checks(connection, policy, release, statistics)
            connection.commit()
    except errors.UniqueViolation:
        connection.rollback()
        drop_indexes(connection, release, filled)
        statistics["duplicates"] += drop_repeats(connection, release, "max")
        with indexing(release, filled):
            checks = raw_checks(connection, policy, release, statistics)
            connection.commit()
    return checks


def _key(table: Table) -> sql.Identifier:
    return sql.Identifier(table.key[0])


def drop_standing(connection: Connection, release: Release) -> int:
    """Drop staged records whose key has landed before, on whatever day."""
    dropped = connection.execute(
        sql.SQL("DELETE FROM {} s USING {} o WHERE o.{k} = s.{k}").format(
            sql.Identifier(STAGING, release.staging),
            sql.Identifier(release.table.zone, release.table.name),
            k=_key(release.table),
        )
    ).rowcount
    connection.commit()
    return dropped


def _carry_over(
    connection: Connection, release: Release, filled: Sequence[Partition], statistics: Statistics, token: str
) -> None:
    """Copy the standing records of the partitions to be replaced, but those the staged ones replace and the erased."""
    table = release.table
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    for partition in sorted(set(partitions(connection, table)) & set(filled)):
        old = partition_name(table, partition)
        standing = count_rows(connection, table.zone, old)
        # Counted, and not what is left over: a standing record that were lost here must not pass for a replaced one.
        replaced = connection.execute(
            sql.SQL("SELECT count(*) FROM {} o WHERE EXISTS (SELECT FROM {} s WHERE s.{k} = o.{k})").format(
                sql.Identifier(table.zone, old), sql.Identifier(STAGING, release.partition(partition)), k=_key(table)
            )
        ).fetchone()
        kept = connection.execute(
            sql.SQL(
                "INSERT INTO {s} ({c}) SELECT {c} FROM {o} o WHERE NOT EXISTS (SELECT 1 FROM {s} s WHERE s.{k} = o.{k})"
            ).format(
                s=sql.Identifier(STAGING, release.partition(partition)),
                o=sql.Identifier(table.zone, old),
                c=columns,
                k=_key(table),
            )
        ).rowcount
        # A record whose subject is gone from the vault was erased: nobody can open it, and it is not carried on.
        erased = connection.execute(
            sql.SQL(
                "DELETE FROM {} s WHERE NOT EXISTS (SELECT 1 FROM vault.subjects v WHERE v.user_token = s.{})"
            ).format(sql.Identifier(STAGING, release.partition(partition)), sql.Identifier(token))
        ).rowcount
        statistics["kept"] += kept - erased
        statistics["erased"] += erased
        statistics["replaced"] += int(replaced[0]) if replaced else 0
        statistics["standing"] += standing
    connection.commit()


def raw_checks(
    connection: Connection, policy: DatasetPolicy, release: Release, statistics: Statistics
) -> list[CheckOutcome]:
    """The checks of a staged raw table; adds `new`, the records that had not landed before, to the statistics."""
    tokens = tokens_check(connection, release, policy.token_column)
    statistics["new"] = int(tokens.figures["rows"]) - statistics["kept"]
    read = ("quarantined", "duplicates", "already_landed", "not_selected", "blank")
    counted = [
        reconciliation_check(
            {"standing": statistics["standing"]} | {name: statistics[name] for name in ("kept", "replaced", "erased")},
            read="standing",
        ),
        reconciliation_check(
            {"read": statistics["read"], "published": statistics["new"]} | {name: statistics[name] for name in read}
        ),
    ]
    return [
        schema_check(connection, release, statistics, policy),
        drift_check(policy, statistics),
        next((outcome for outcome in counted if not outcome.passed), counted[-1]),
        tokens,
    ]
