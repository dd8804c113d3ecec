"""Releasing a differentially private aggregate: bounded contributions in, noisy figures out, under a budget.

A release is made of **periods**. Where the unit is a user on a day, and the source is partitioned by that day, each day
is a period: it is computed, charged and left standing by itself, so that landing one day costs nothing for the others.
Else the whole table is one period. A period is computed anew if the question changed, or what was released of its
input: the number of that publication in the audit log. If the exact answers then turn out to be those that the standing
numbers were made of, these stay and cost nothing: to land the same files again is no new question. A keyed digest of
the exact answers tells, so that the ledger does not. (That numbers stay tells that nothing they are made of changed:
said in docs/differential-privacy.md.)

Statistics of a run (rows read, cut off, groups below the threshold) are exact and not private: they are for those who
operate it, who see the anonymized tables as well.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl
from psycopg import Connection, sql
from pyspark.sql import SparkSession

from privacy_platform.anonymization.dp.plan import Plan
from privacy_platform.engine.bounding import ALL_ROWS, COMPLETE, ROWS, bounded_answers
from privacy_platform.engine.gate import (
    Moment,
    Publication,
    ReleaseReport,
    Run,
    column_lineage,
    conclude,
    one_moment,
    releasing,
    unchanged,
)
from privacy_platform.engine.shares import Shares, require_upstream
from privacy_platform.engine.sources.zone import enter_snapshot
from privacy_platform.engine.stage import CopyOnce, Statistics
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.governance import audit, budget
from privacy_platform.governance.budget import Charge, Spending
from privacy_platform.governance.lineage import LineageRecord
from privacy_platform.policy.accounts import Account, account_of
from privacy_platform.policy.compile import aggregate_table, anonymized_table
from privacy_platform.policy.figures import figures, private_answers, shown
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.privacy import DateKeys, PrivacyUnit
from privacy_platform.policy.private import PEOPLE, plan_of
from privacy_platform.policy.tables import WHOLE, Partition, Table
from privacy_platform.vault.keyring import Purpose, load_keyring
from privacy_platform.warehouse.checks import (
    BUDGET_RESPECTED,
    ROW_COUNT_RECONCILED,
    SCHEMA_MATCHES_POLICY,
    CheckOutcome,
    not_run,
    reconciliation_check,
    schema_check,
    staged_rows,
)
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import STAGING, Release, indexing, open_staging
from privacy_platform.warehouse.tables import (
    count_rows,
    expected_shape,
    partition_name,
    standing_shape,
)

__all__ = ["PRIVATE_CHECKS", "NoAccountError", "release_private"]

PRIVATE_CHECKS = (SCHEMA_MATCHES_POLICY, ROW_COUNT_RECONCILED, BUDGET_RESPECTED)
Period = date | None
# Part of every fingerprint: to be raised when the same question is computed otherwise.
_COMPUTATION = 1


class NoAccountError(PrivacyPlatformError):
    """Nobody has declared a budget for the people of a private aggregate."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What a run has found to do.

    Attributes:
        asked: period → digest of the question and of the releases it is asked of.
        standing: period → what stands in the table: that digest, a colon, and that of the exact answers.
    """

    asked: Mapping[Period, str]
    standing: Mapping[Period, str]

    @property
    def fresh(self) -> list[Period]:
        """The periods that have to be computed."""
        return [p for p, digest in self.asked.items() if self.standing.get(p, "").partition(":")[0] != digest]


def release_private(
    spark: Callable[[], SparkSession], policy: AggregatePolicy, policies: PolicySet, run: Run
) -> ReleaseReport:
    """Compute what is new of a private aggregate, add noise, charge it to the budget and publish it.

    Raises:
        UpstreamMissingError: a table it is made from was never materialized.
        BudgetSpentError: it would cost more than is left; nothing was computed.
        GateError: a check failed; also if another run has spent the budget in the meantime.
    """
    table = aggregate_table(policy, policies)
    sources = [anonymized_table(policies.anonymized_tables[name]) for name in table.upstream]
    account, plan = _account(policy, policies), plan_of(policy)
    # What streams in while the tasks read must be in all that they read, or in nothing of it; and what is taken down
    # as read is of the same moment.
    with releasing(table) as connection, one_moment(connection, table, sources) as moment:
        require_upstream(connection, table, sources)
        enter_snapshot(connection, moment.seen)
        work = _work(connection, policy, table, moment)
        if not work.fresh and set(work.standing) == set(work.asked):
            return unchanged(connection, table, run, policy.aggregate, _standing_checks(connection, table, account))
        most = [Charge(period, plan.loss, work.asked[period]) for period in work.fresh]
        budget.check_before(connection, account, table.qualified, most)
        read = {source: _read_partitions(policy, source, moment, work) for source in sources}
        counts = {
            source: sum(count_rows(connection, source.zone, partition_name(source, p)) for p in chosen)
            for source, chosen in read.items()
        }
        shares = Shares(connection, policy, read, seen=moment.seen)
        connection.commit()
        release = Release(table, (WHOLE,))
        open_staging(connection, release)
        connection.commit()
        answers = bounded_answers(spark(), policy, shares)
        stands = dict(work.standing) | {
            period: f"{work.asked[period]}:{_digest(policy, _of_period(policy, answers, period))}"
            for period in work.fresh
        }
        stands = {period: stands[period] for period in work.asked}
        told = [p for p in work.asked if stands[p].partition(":")[2] == work.standing.get(p, "").partition(":")[2]]
        untold = [period for period in work.asked if period not in told]
        statistics = Statistics(read=counts[sources[0]])
        statistics.update(_stage(release, policy, plan, answers, untold))
        carried = _carry_over(connection, release, policy, told)
        with indexing(release, (WHOLE,)):
            published = staged_rows(connection, release)
            checks = [schema_check(connection, release, {}, None), _reconciled(statistics, carried, published)]
            connection.commit()
        publication = Publication(
            dataset=policy.aggregate,
            lineage=tuple(
                LineageRecord(
                    source=source.qualified,
                    target=table.qualified,
                    transformation=f"differentially private aggregate: {shown(plan, policy)}",
                    records_in=counts[source],
                    records_out=published,
                    run_id=run.id,
                    column_lineage=column_lineage(table),
                )
                for source in sources
            ),
            spending=Spending(
                account=account,
                target=table.qualified,
                run_id=run.id,
                mechanism=plan.mechanism + ("" if plan.threshold is None else ", keys above a threshold"),
                charges=tuple(Charge(period, plan.loss, stands[period]) for period in untold),
                stands=stands,
                plan=plan.summary(),
            ),
        )
        return conclude(
            connection,
            release,
            run,
            publication,
            filled=(WHOLE,),
            checks=checks,
            statistics=statistics,
            upstream=moment.pins(read),
        )


def _account(policy: AggregatePolicy, policies: PolicySet) -> Account:
    assert policy.privacy is not None  # noqa: S101 - only for private aggregates
    dataset = policies.anonymized_tables[policy.source].dataset
    account = account_of(dataset, policy.privacy.unit, policies.datasets)
    if account is None:
        raise NoAccountError(
            f"{policy.aggregate}: no privacy_budget is declared for unit {policy.privacy.unit} of the people of "
            f"{dataset}; declare one in their dataset's policy."
        )
    return account


def _daily(policy: AggregatePolicy, source: Table) -> bool:
    """Whether each day of the source is a period of its own."""
    assert policy.privacy is not None  # noqa: S101 - only for private aggregates
    if policy.privacy.unit is not PrivacyUnit.USER_DAY or policy.day_dimension is None:
        return False
    return policy.dimensions[policy.day_dimension].column == source.partition_column


def _work(connection: Connection, policy: AggregatePolicy, table: Table, moment: Moment) -> _Work:
    """Which periods there are, and which of them do not stand."""
    source = next(iter(moment.standing))
    if _daily(policy, source):
        # The joined table is no part of it: a day once released stands, however users are described since.
        released = audit.last_publications(connection, source.qualified)
        asked: dict[Period, str] = {
            day: _fingerprint(policy, {source.name: {str(day): released.get(Partition(day).suffix, 0)}})
            for day in _days(policy, moment.standing[source])
        }
    else:
        inputs = {each.name: audit.last_publications(connection, each.qualified) for each in moment.standing}
        asked = {None: _fingerprint(policy, inputs)}
    shaped = standing_shape(connection, table) == expected_shape(table)
    return _Work(asked, budget.standing(connection, table.qualified) if shaped else {})


def _days(policy: AggregatePolicy, standing: Sequence[Partition]) -> list[date]:
    """The days of the table: those that are known beforehand, or those that the source has."""
    known = policy.privacy.known.get(policy.day_dimension or "") if policy.privacy else None
    if isinstance(known, DateKeys):
        return [known.first + timedelta(days=n) for n in range((known.last - known.first).days + 1)]
    return [p.day for p in standing if p.day is not None]


def _fingerprint(policy: AggregatePolicy, inputs: Mapping[str, Mapping[str, int]]) -> str:
    """A digest of the question and of the releases it is asked of."""
    said = json.dumps([_question(policy), inputs], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _digest(policy: AggregatePolicy, answers: pl.DataFrame) -> str:
    """A keyed digest of the question and its exact answers: whoever reads the ledger can try no answers out."""
    ordered = answers.select(sorted(answers.columns)).sort(list(policy.dimensions), nulls_last=True)
    said = json.dumps(_question(policy), sort_keys=True) + ordered.write_csv()
    key = load_keyring().secret(Purpose.HMAC).encode()
    return hmac.digest(key, b"answers of a private aggregate:" + said.encode(), "sha256").hex()


def _question(policy: AggregatePolicy) -> Mapping[str, object]:
    """What is asked, and how it is computed; not what comments say of it."""
    asked = policy.model_dump(mode="json", exclude={"description", "owners", "minimum_group_size"})
    for part in (*asked["dimensions"].values(), *asked["measures"].values()):
        del part["comment"]
    return {"computation": _COMPUTATION, **asked}


def _of_period(policy: AggregatePolicy, answers: pl.DataFrame, period: Period) -> pl.DataFrame:
    return answers if period is None else answers.filter(pl.col(policy.day_dimension or "") == period)


def _read_partitions(policy: AggregatePolicy, source: Table, moment: Moment, work: _Work) -> Sequence[Partition]:
    """What has to be read of a table: of a daily source the new days alone."""
    standing = moment.standing[source]
    if source.name != policy.source or not _daily(policy, source):
        return standing
    return [partition for partition in standing if partition.day in work.fresh]


def _stage(
    release: Release, policy: AggregatePolicy, plan: Plan, answers: pl.DataFrame, untold: Sequence[Period]
) -> Statistics:
    """Copy the noisy figures of the periods whose answers nobody was told yet; count what was read of all."""
    there = answers.filter(pl.col(COMPLETE) & (pl.col(PEOPLE) > 0))
    days = None if None in untold else [day for day in untold if day is not None]
    if not untold:
        asked, released = there.clear(), pl.DataFrame(schema=release.staged_table.schema())
    else:
        asked = there if days is None else there.filter(pl.col(policy.day_dimension or "").is_in(days))
        released = figures(policy, plan, private_answers(policy, plan, asked, days=days))
    hidden = asked.join(released, on=list(policy.dimensions), how="anti")
    statistics = Statistics(
        groups=asked.height,
        groups_shown=released.height,
        groups_below_threshold=hidden.height,
        rows_counted=int(there[ROWS].sum()),
        rows_cut_off=int(answers.filter(pl.col(COMPLETE))[ALL_ROWS].sum()) - int(there[ROWS].sum()),
        rows_without_dimension=int(answers.filter(~pl.col(COMPLETE))[ALL_ROWS].sum()),
    )
    schema = release.staged_table.schema()
    with (
        closing(connect(Role.PIPELINE, wait_for_disk=False)) as connection,
        CopyOnce(connection, release.staging, 0) as copy,
    ):
        # In order of the keys: an order of Spark's could tell how groups came about.
        copy.copy(
            release.staging,
            released.select(pl.col(n).cast(t) for n, t in schema.items()).sort(list(policy.dimensions)),
        )
        copy.commit(statistics)
    return statistics


def _carry_over(connection: Connection, release: Release, policy: AggregatePolicy, told: Sequence[Period]) -> int:
    """Take the rows of the periods that stand as they are; their number."""
    if not told:
        return 0
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in release.table.columns)
    carried = (
        sql.SQL("")
        if None in told
        else sql.SQL(" WHERE {} = ANY({})").format(
            sql.Identifier(policy.day_dimension or ""), sql.Literal([day for day in told if day is not None])
        )
    )
    inserted = connection.execute(
        sql.SQL("INSERT INTO {} ({names}) SELECT {names} FROM {}{}").format(
            sql.Identifier(STAGING, release.staging),
            sql.Identifier(release.table.zone, release.table.name),
            carried,
            names=names,
        )
    ).rowcount
    connection.commit()
    return inserted


def _reconciled(statistics: Statistics, carried: int, published: int) -> CheckOutcome:
    """Every row read is counted, cut off by a bound, or lacks a dimension; every group shown is staged."""
    outcomes = [
        reconciliation_check(
            {"published": published, "carried over": carried, "new": statistics["groups_shown"]}, read="published"
        ),
        reconciliation_check(
            {
                "read": statistics["read"],
                "counted": statistics["rows_counted"],
                "cut off by the bounds": statistics["rows_cut_off"],
                "without a required dimension": statistics["rows_without_dimension"],
            }
        ),
    ]
    return next((outcome for outcome in outcomes if not outcome.passed), outcomes[-1])


def _standing_checks(connection: Connection, table: Table, account: Account) -> list[CheckOutcome]:
    """What can be looked at again when nothing is new."""
    return [
        schema_check(connection, table, {}, None),
        not_run(ROW_COUNT_RECONCILED, "nothing is new, so nothing was read"),
        budget.budget_check(connection, account),
    ]
