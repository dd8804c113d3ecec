"""What a private aggregate shows, held against the exact figures: as it stands, and under other parameters.

Whoever looks at either learns of the exact figures, and no budget pays for it: for compliance only. To choose
parameters without looking at the data at all, `policy.explanation` promises the error of the noise before anything is
read; what only the data can tell is how much the bounds cut off.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import product

import polars as pl
from psycopg import Connection, sql
from pyspark.sql import SparkSession

from privacy_platform.anonymization.dp.utility import MeasureUtility, compare
from privacy_platform.engine.bounding import ALL_ROWS, COMPLETE, ROWS, bounded_answers
from privacy_platform.engine.exact import exact_groups
from privacy_platform.engine.gate import one_moment
from privacy_platform.engine.shares import Read, Shares, require_upstream
from privacy_platform.engine.sources.zone import enter_snapshot
from privacy_platform.policy.compile import aggregate_table, anonymized_table
from privacy_platform.policy.figures import figures, private_answers
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.privacy import LandedKeys
from privacy_platform.policy.private import PEOPLE, plan_of
from privacy_platform.warehouse.tables import partitions

__all__ = ["Trial", "measured", "trials"]

_COUNTED = ("count", "count_distinct", "sum", "histogram")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How good a release with these parameters would have been.

    Attributes:
        epsilon: of the release.
        groups_per_unit: how many groups a unit counts in at most.
        rows_per_group: how many rows of it count in each at most.
        rows_per_unit: how many rows of it count in all at most; None for no such bound.
        counted: share of the rows that the bounds leave.
        threshold: the noisy number of people at which a group is shown; None when all keys are known.
        utility: figures of one draw of the noise against exact ones.
    """

    epsilon: float
    groups_per_unit: int
    rows_per_group: int
    rows_per_unit: int | None
    counted: float
    threshold: int | None
    utility: tuple[MeasureUtility, ...]


def trials(
    spark: SparkSession,
    connection: Connection,
    policy: AggregatePolicy,
    policies: PolicySet,
    *,
    epsilons: Sequence[float],
    groups: Sequence[int],
    rows: Sequence[int],
    in_all: Sequence[int | None] = (None,),
) -> Iterator[Trial]:
    """Every combination of the parameters tried on the anonymized tables as they stand; nothing is released.

    Raises:
        UpstreamMissingError: a table it is made from was never materialized.
        PlanError: parameters that allow no private release.
    """
    privacy = policy.privacy
    assert privacy is not None  # noqa: S101 - only for private aggregates
    with _moment(connection, policy, policies) as (read, seen):
        exact = _exact(spark, connection, policy, policies, read, seen)
        days = _landed(connection, policy, policies)
        for each in product(groups, rows, in_all):
            bounds = dict(zip(("groups_per_unit", "rows_per_group", "rows_per_unit"), each, strict=True))
            bound = policy.model_copy(update={"privacy": privacy.model_copy(update=bounds)})
            shares = Shares(connection, bound, read, seen=seen)
            answers = bounded_answers(spark, bound, shares).filter(pl.col(COMPLETE))
            there = answers.filter(pl.col(PEOPLE) > 0)
            for epsilon in epsilons:
                changed = privacy.model_copy(update={**bounds, "epsilon": epsilon})
                tried = policy.model_copy(update={"privacy": changed})
                plan = plan_of(tried)
                released = figures(tried, plan, private_answers(tried, plan, there, days=days))
                yield Trial(
                    epsilon=epsilon,
                    groups_per_unit=changed.groups_per_unit,
                    rows_per_group=changed.rows_per_group,
                    rows_per_unit=changed.rows_per_unit,
                    counted=int(there[ROWS].sum()) / max(1, int(answers[ALL_ROWS].sum())),
                    threshold=plan.threshold,
                    utility=_utility(policy, released, exact),
                )


def measured(
    spark: SparkSession, connection: Connection, policy: AggregatePolicy, policies: PolicySet
) -> tuple[MeasureUtility, ...]:
    """The standing table against the exact figures of the anonymized tables as they stand now.

    Raises:
        UpstreamMissingError: a table it is made from was never materialized.
    """
    table = aggregate_table(policy, policies)
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    with _moment(connection, policy, policies) as (read, seen):
        rows = connection.execute(
            sql.SQL("SELECT {} FROM {}").format(columns, sql.Identifier(table.zone, table.name))
        ).fetchall()
        exact = _exact(spark, connection, policy, policies, read, seen)
    return _utility(policy, pl.DataFrame(rows, schema=table.schema(), orient="row"), exact)


@contextmanager
def _moment(connection: Connection, policy: AggregatePolicy, policies: PolicySet) -> Iterator[tuple[Read, str]]:
    """The tables the aggregate is made from, as of one moment: that of the connection's transaction, too."""
    table = aggregate_table(policy, policies)
    sources = [anonymized_table(policies.anonymized_tables[name]) for name in table.upstream]
    with one_moment(connection, table, sources) as moment:
        enter_snapshot(connection, moment.seen)
        require_upstream(connection, table, sources)
        yield moment.standing, moment.seen


def _landed(connection: Connection, policy: AggregatePolicy, policies: PolicySet) -> list[date] | None:
    """The days that are keys because data has landed; None where the policy has no such keys."""
    assert policy.privacy is not None  # noqa: S101 - only for private aggregates
    if not any(isinstance(keys, LandedKeys) for keys in policy.privacy.known.values()):
        return None
    source = anonymized_table(policies.anonymized_tables[policy.source])
    return [partition.day for partition in partitions(connection, source) if partition.day is not None]


def _exact(
    spark: SparkSession,
    connection: Connection,
    policy: AggregatePolicy,
    policies: PolicySet,
    read: Read,
    seen: str,
) -> pl.DataFrame:
    """The exact figures of all groups, however small."""
    everybody = policy.model_copy(update={"minimum_group_size": 1})
    groups = exact_groups(spark, connection, everybody, policies, read, seen=seen)
    required = [name for name, dimension in policy.dimensions.items() if dimension.required]
    return groups.drop_nulls(required) if required else groups


def _utility(policy: AggregatePolicy, released: pl.DataFrame, exact: pl.DataFrame) -> tuple[MeasureUtility, ...]:
    names = {figure: measure.kind for name, measure in policy.measures.items() for figure in measure.figures(name)}
    return tuple(
        compare(
            released,
            exact,
            dimensions=list(policy.dimensions),
            figures=list(names),
            people=PEOPLE,
            counts={name for name, kind in names.items() if kind in _COUNTED},
        )
    )
