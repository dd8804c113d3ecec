"""Aggregates in Spark SQL: groups, measures, and the number of people in each group.

Pure functions of DataFrames; which columns exist and of what type is settled when policies are loaded.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from privacy_platform.policy.compile import UNKNOWN
from privacy_platform.policy.model import AggregatePolicy, Dimension, Measure

PEOPLE = "people_in_group"


def aggregate(policy: AggregatePolicy, source: DataFrame, joined: DataFrame | None) -> DataFrame:
    """One row a group: the dimensions, the measures, and `people_in_group`, the distinct privacy units.

    Args:
        policy: what to compute.
        source: the anonymized table's columns.
        joined: the table of `policy.join`, if there is one.
    """
    rows = source
    if policy.join and joined is not None:
        rows = rows.join(joined.select(policy.join.by, *policy.join.columns), on=policy.join.by, how="left")
    for name, span in policy.derive.items():
        window = Window.partitionBy(span.by)
        rows = rows.withColumn(
            name,
            (F.unix_micros(F.max(span.span).over(window)) - F.unix_micros(F.min(span.span).over(window))) / 1e6,
        )
    kept = [dimension.column for dimension in policy.dimensions.values() if dimension.required]
    rows = rows.dropna(subset=kept) if kept else rows
    names = list(policy.dimensions)
    rows = rows.select("*", *(_dimension(d).alias(f"__{name}") for name, d in policy.dimensions.items()))
    keys = [F.col(f"__{name}").alias(name) for name in names]
    plain = {n: m for n, m in policy.measures.items() if m.kind != "ratio" and not m.once_per}
    groups = rows.groupBy(*keys).agg(
        F.countDistinct(policy.unit).alias(PEOPLE), *(_measure(m).alias(name) for name, m in plain.items())
    )
    for name, measure in policy.measures.items():
        if measure.once_per:
            once = rows.where(F.col(measure.once_per).isNotNull()).select(
                *keys, measure.once_per, F.col(measure.column or "").alias("__value")
            )
            means = once.distinct().groupBy(*names).agg(F.avg("__value").alias(name))
            groups = groups.join(means, on=names, how="left")
    for name, measure in policy.measures.items():
        if measure.kind == "ratio":
            below = F.col(measure.denominator or "")
            groups = groups.withColumn(name, F.when(below != 0, F.col(measure.numerator or "") / below))
    return groups.select(*names, *policy.measures, PEOPLE)


def _dimension(dimension: Dimension) -> Column:
    column = F.col(dimension.column)
    if dimension.truncate:
        return F.to_date(F.date_trunc(dimension.truncate, column))
    return column if dimension.required else F.coalesce(column.cast("string"), F.lit(UNKNOWN))


def _measure(measure: Measure) -> Column:
    condition = reduce(lambda a, b: a & b, (F.col(c) == v for c, v in measure.where.items()), F.lit(True))
    if measure.kind == "count":
        return F.count(F.when(condition, F.lit(1)))
    value = F.col(measure.column or "")
    if measure.kind == "count_distinct":
        return F.countDistinct(F.when(condition, value))
    if measure.times:
        value = value * F.col(measure.times)
    chosen = F.when(condition, value.cast("double"))
    # A sum of no rows is zero; a mean of no rows is unknown.
    return F.coalesce(F.sum(chosen), F.lit(0.0)) if measure.kind == "sum" else F.avg(chosen)
