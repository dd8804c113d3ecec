"""Contribution bounding in Spark SQL: the whole numbers that a private aggregate adds noise to.

Promise: a unit (a user, or a user on a day) is in at most `groups_per_unit` groups, with at most `rows_per_group` rows
in each and `rows_per_unit` in all, and every row adds at most what its measure is clamped to. Which groups and rows
stay depends on that unit's rows alone, so another unit's coming or going changes nothing for it: what sensitivity is
reckoned from.

They are chosen by a hash that begins with the unit's token, a keyed one, over the columns in use: nobody outside can
place rows first, the same data give the same choice, and rows alike in all these columns may stand for each other.
Rows are shuffled once, by unit; every step after that sees a unit whole. Where a single unit has so many rows that the
task it falls to would end long after all others, `thinning` takes out beforehand what no bound lets stay.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from privacy_platform.anonymization.dp.postprocess import Range
from privacy_platform.engine.spark_columns import chosen_value, condition, joined_rows, span_seconds
from privacy_platform.engine.thinning import WEIGHT, key_of, thinned, unit_of
from privacy_platform.policy.model import AggregatePolicy, Measure
from privacy_platform.policy.privacy import PrivacyPolicy
from privacy_platform.policy.private import (
    KEYS,
    PEOPLE,
    STEPS,
    bin_edges,
    clamp_of,
    found_dimensions,
    queries_of,
    query_column,
)

__all__ = ["ALL_ROWS", "COMPLETE", "ROWS", "bounded"]

ROWS = "_rows"
ALL_ROWS = "_all_rows"
COMPLETE = "_complete"


def bounded(policy: AggregatePolicy, source: DataFrame, joined: DataFrame | None, *, heavy: bool = False) -> DataFrame:
    """One row a group: dimensions, the columns of every query, and hidden counts.

    With `heavy`, rows are thinned out first, for units with so many that no task should get them all: the same results.

    `_people` counts the units that stay in the group, `_keys` those whose first group of the same found keys it is (so
    that its sum over these groups counts each unit once), `_rows` their rows, `_all_rows` those that were cut off too.
    Where `_complete` is false a required dimension has no value, or none of its known keys: nothing stays there.
    """
    privacy = policy.privacy
    assert privacy is not None  # noqa: S101 - only for private aggregates
    used = [name for name in source.columns if name != policy.unit]
    rows = thinned(policy, privacy, source) if heavy else source
    rows = joined_rows(policy, rows.repartition(F.col(policy.unit)), joined)
    for name, dimension in policy.dimensions.items():
        rows = rows.withColumn(f"__{name}", key_of(dimension, privacy.known.get(name)))
    unit = unit_of(policy, privacy)
    for name, span in () if heavy else policy.derive.items():
        # Within the unit: a session of two people, or two days, must not carry one's doings into the other's figures.
        rows = rows.withColumn(name, span_seconds(span, Window.partitionBy(*unit, span.by)))
    keys = [f"__{name}" for name in policy.dimensions]
    required = [F.col(f"__{n}").isNotNull() for n, d in policy.dimensions.items() if d.required]
    rows = rows.withColumn(COMPLETE, reduce(lambda a, b: a & b, required, F.lit(True)))
    # One order for every step, so that Spark sorts once: groups by a hash, those of the same found keys next to each
    # other, and rows by a hash within. Groups whose hashes are equal would count as one: less, never more.
    found = F.xxhash64(policy.unit, *(f"__{name}" for name in found_dimensions(policy)))
    rows = rows.withColumn("__found", F.when(F.col(COMPLETE), found))
    rows = rows.withColumn("__group", F.xxhash64(policy.unit, *keys))
    rows = rows.withColumn("__row", F.xxhash64(policy.unit, *used))
    group = [*unit, "__found", "__group"]
    rows = _bounded_rows(privacy, rows, unit, group)
    per_unit = rows.groupBy(*group).agg(
        *(F.first(key).alias(key) for key in (*keys, COMPLETE) if key not in group),
        (F.sum(WEIGHT) if heavy else F.count(F.lit(1))).alias(ALL_ROWS),
        _rows_where(F.col("__row_stays")).alias(ROWS),
        *(c for name, m in policy.measures.items() for c in _contributions(policy, privacy, name, m)),
    )
    per_unit = _bounded_groups(policy, privacy, per_unit, unit)
    answers = [c for c in per_unit.columns if c.startswith("_q_")]
    return per_unit.groupBy(*(F.col(key).alias(name) for key, name in zip(keys, policy.dimensions, strict=True))).agg(
        F.first(COMPLETE).alias(COMPLETE),
        F.sum(ALL_ROWS).alias(ALL_ROWS),
        *(F.sum(F.when(F.col("__stays"), F.col(c)).otherwise(F.lit(0))).alias(c) for c in (ROWS, *answers)),
        _rows_where(F.col("__stays")).alias(PEOPLE),
        _rows_where(F.col("__stays") & F.col("__begins")).alias(KEYS),
    )


def _bounded_rows(privacy: PrivacyPolicy, rows: DataFrame, unit: list[str], group: list[str]) -> DataFrame:
    """The rows with their rank within unit and group, and whether they stay within the bounds on rows."""
    rows = rows.withColumn("__rank", F.row_number().over(Window.partitionBy(*group).orderBy("__row")))
    stays = F.col(COMPLETE) & (F.col("__rank") <= privacy.rows_per_group)
    if privacy.rows_per_unit is not None:
        in_order = Window.partitionBy(*unit).orderBy("__found", "__group", "__row")
        so_far = F.sum(stays.cast("long")).over(in_order.rowsBetween(Window.unboundedPreceding, 0))
        stays = stays & (so_far <= privacy.rows_per_unit)
    return rows.withColumn("__row_stays", stays)


def _bounded_groups(policy: AggregatePolicy, privacy: PrivacyPolicy, groups: DataFrame, unit: list[str]) -> DataFrame:
    """The units' groups, whether they stay within the bounds on groups, and whether new found keys begin with them."""
    in_order = Window.partitionBy(*unit).orderBy("__found", "__group")
    so_far = in_order.rowsBetween(Window.unboundedPreceding, 0)
    stays = F.col(COMPLETE) & (F.sum(F.col(COMPLETE).cast("long")).over(so_far) <= privacy.groups_per_unit)
    begins = F.lit(False)
    if KEYS in {query.name for query in queries_of(policy)}:
        # A difference of a hash's values is a difference of keys: in order, a new one begins where it changes.
        begins = F.col(COMPLETE) & ~F.lag("__found").over(in_order).eqNullSafe(F.col("__found"))
        groups = groups.withColumn("__begins", begins)
        number = F.sum(F.col("__begins").cast("long")).over(so_far)
        stays = stays & (number <= (privacy.keys_per_unit or privacy.groups_per_unit))
    else:
        groups = groups.withColumn("__begins", begins)
    return groups.withColumn("__stays", stays)


def _contributions(policy: AggregatePolicy, privacy: PrivacyPolicy, name: str, measure: Measure) -> list[Column]:
    """What a unit adds to a measure's queries in one group."""
    if measure.kind == "ratio" or (measure.kind == "count_distinct" and not measure.where):
        return []  # made of other measures; the number of units itself
    counts = condition(measure) & F.col("__row_stays") & (F.col("__rank") <= privacy.rows(name))
    if measure.kind == "count":
        return [_rows_where(counts).alias(query_column(name))]
    if measure.kind == "count_distinct":
        return [F.max(F.when(counts, 1).otherwise(0)).cast("long").alias(query_column(name))]
    value = chosen_value(measure)
    if measure.kind in ("histogram", "quantile"):
        edges = bin_edges(policy, name)
        # A quantile's values are cut to its clamp, so all are in a bin; a histogram leaves others out.
        value = value if measure.kind == "histogram" else _cut(value, clamp_of(privacy, name))
        last = len(edges) - 2
        return [
            _rows_where(counts & (value >= edges[i]) & _below(value, edges[i + 1], measure, i == last)).alias(
                query_column(name, str(i + 1))
            )
            for i in range(last + 1)
        ]
    if measure.once_per:
        return _once(privacy, measure, name, value)
    return _sums(measure, name, clamp_of(privacy, name), value, counts)


def _once(privacy: PrivacyPolicy, measure: Measure, name: str, value: Column) -> list[Column]:
    """Sum and count of a mean in which each value of a column counts once, so many of them at most."""
    clamp = clamp_of(privacy, name)
    by = F.col(measure.once_per or "")
    pair = F.struct(
        F.xxhash64(by).alias("order"),
        by.alias("by"),
        _steps((_cut(value, clamp) - clamp.middle) / clamp.half).alias("value"),
    )
    counts = condition(measure) & F.col("__row_stays") & value.isNotNull()
    pairs = F.slice(F.array_sort(F.collect_set(F.when(counts, pair))), 1, privacy.rows(name))
    added = F.aggregate(pairs, F.lit(0).cast("long"), lambda total, each: total + each["value"])
    return [added.alias(query_column(name, "sum")), F.size(pairs).cast("long").alias(query_column(name, "count"))]


def _sums(measure: Measure, name: str, clamp: Range, value: Column, counts: Column) -> list[Column]:
    """The fixed-point sums of a sum, mean or variance, and their count."""
    cut = _cut(value, clamp)
    if measure.kind == "sum":
        largest = max(abs(clamp.low), abs(clamp.high))
        return [_sum(counts, _steps(cut / largest)).alias(query_column(name))]
    distance = (cut - clamp.middle) / clamp.half
    columns = [
        _sum(counts, _steps(distance)).alias(query_column(name, "sum")),
        _rows_where(counts & value.isNotNull()).alias(query_column(name, "count")),
    ]
    if measure.kind == "variance":
        columns.append(_sum(counts, _steps(2 * distance * distance - 1)).alias(query_column(name, "squares")))
    return columns


def _cut(value: Column, clamp: Range) -> Column:
    """The value within its clamp; a NaN, which Spark takes for the greatest of all, becomes its upper end."""
    return F.when(value.isNotNull(), F.greatest(F.least(value, F.lit(clamp.high)), F.lit(clamp.low)))


def _below(value: Column, edge: float, measure: Measure, last: bool) -> Column:
    return value <= edge if last and measure.kind == "quantile" else value < edge


def _steps(share: Column) -> Column:
    """A number from -1 to 1 in fixed point, and never beyond however it was rounded."""
    rounded = F.round(share * float(STEPS)).cast("long")
    return F.when(rounded.isNotNull(), F.greatest(F.least(rounded, F.lit(STEPS)), F.lit(-STEPS)))


def _sum(counts: Column, steps: Column) -> Column:
    return F.sum(F.coalesce(F.when(counts, steps), F.lit(0).cast("long")))


def _rows_where(counts: Column) -> Column:
    return F.sum(F.when(counts, 1).otherwise(0).cast("long"))
