"""Aggregates in Spark SQL: groups, measures, and the number of people in each group.

Pure functions of DataFrames; which columns exist and of what type is settled when policies are loaded.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from privacy_platform.policy.compile import UNKNOWN
from privacy_platform.policy.model import AggregatePolicy, Dimension, Measure, Span

# Hidden columns begin with an underscore, as no name in a policy can.
PEOPLE = "_people"
ROWS = "_rows"


def people_of(measure: str) -> str:
    """The hidden column that counts the people behind a measure."""
    return f"_people_{measure}"


def counted_measures(policy: AggregatePolicy) -> list[str]:
    """The measures whose people are counted: all but ratios, which are made of them."""
    return [name for name, measure in policy.measures.items() if measure.kind != "ratio"]


def aggregate(policy: AggregatePolicy, source: DataFrame, joined: DataFrame | None) -> DataFrame:
    """One row a group: the dimensions, the measures, and hidden counts.

    `_people` counts the group's people, `_people_<measure>` those whose rows a measure is made of, `_rows` the rows.
    A measure of fewer people than the policy's minimum, but not of nobody, is null: in a group of many, the revenue
    of the one who bought is that one's. Groups with a null required dimension are there too, to be counted.

    Args:
        policy: what to compute.
        source: the anonymized table's columns.
        joined: the table of `policy.join`, if there is one.
    """
    rows = source
    if policy.join and joined is not None:
        rows = rows.join(joined.select(policy.join.by, *policy.join.columns), on=policy.join.by, how="left")
    for name, span in policy.derive.items():
        rows = rows.withColumn(name, _span(span))
    names = list(policy.dimensions)
    rows = rows.select("*", *(_dimension(d).alias(f"__{name}") for name, d in policy.dimensions.items()))
    keys = [F.col(f"__{name}").alias(name) for name in names]
    groups = _groups(policy, rows, keys)
    for name, measure in policy.measures.items():
        if measure.once_per:
            once = rows.where(F.col(measure.once_per).isNotNull()).select(
                *keys, measure.once_per, F.col(measure.column or "").alias("__value")
            )
            means = once.distinct().groupBy(*names).agg(F.avg("__value").alias(name))
            same = reduce(lambda a, b: a & b, (groups[key].eqNullSafe(means[key]) for key in names))
            groups = groups.join(means, on=same, how="left").select(groups["*"], means[name])
    for name in counted_measures(policy):
        people = F.col(people_of(name))
        enough = (people == 0) | (people >= policy.minimum_group_size)
        groups = groups.withColumn(name, F.when(enough, F.col(name)))
    for name, measure in policy.measures.items():
        if measure.kind == "ratio":
            below = F.col(measure.denominator or "")
            groups = groups.withColumn(name, F.when(below != 0, F.col(measure.numerator or "") / below))
    return groups.select(*names, *policy.measures, PEOPLE, *map(people_of, counted_measures(policy)), ROWS)


def _groups(policy: AggregatePolicy, rows: DataFrame, keys: list[Column]) -> DataFrame:
    """Counts, sums and means, by way of a row for each person in each group: people are counted without `distinct`."""
    measures = {name: policy.measures[name] for name in counted_measures(policy)}
    persons = rows.groupBy(*keys, policy.unit).agg(
        F.count(F.lit(1)).alias(ROWS),
        *(F.count(_chosen(m)).alias(f"__n_{name}") for name, m in measures.items()),
        *(F.sum(_chosen(m)).alias(f"__s_{name}") for name, m in measures.items() if m.kind in ("sum", "mean")),
    )
    columns = []
    for name, measure in measures.items():
        count, people = F.sum(f"__n_{name}"), F.count(F.when(F.col(f"__n_{name}") > 0, F.lit(1)))
        columns.append(people.alias(people_of(name)))
        if measure.kind == "count_distinct":
            columns.append(people.alias(name))
        elif measure.kind == "count":
            columns.append(count.alias(name))
        elif measure.kind == "sum":  # a sum of no rows is zero, a mean of no rows unknown
            columns.append(F.coalesce(F.sum(f"__s_{name}"), F.lit(0.0)).alias(name))
        elif not measure.once_per:
            columns.append(F.when(count > 0, F.sum(f"__s_{name}") / count).alias(name))
    return persons.groupBy(*policy.dimensions).agg(F.count(F.lit(1)).alias(PEOPLE), F.sum(ROWS).alias(ROWS), *columns)


def _span(span: Span) -> Column:
    window = Window.partitionBy(span.by)
    last, first = F.unix_micros(F.max(span.span).over(window)), F.unix_micros(F.min(span.span).over(window))
    return F.when(F.col(span.by).isNotNull(), (last - first) / 1e6)


def _dimension(dimension: Dimension) -> Column:
    column = F.col(dimension.column)
    if dimension.truncate:
        return F.to_date(F.date_trunc(dimension.truncate, column))
    return column if dimension.required else F.coalesce(column.cast("string"), F.lit(UNKNOWN))


def _chosen(measure: Measure) -> Column:
    """What a row adds to a measure; null where it adds nothing."""
    condition = reduce(lambda a, b: a & b, (F.col(c) == v for c, v in measure.where.items()), F.lit(True))
    if measure.once_per:
        condition = condition & F.col(measure.once_per).isNotNull()
    if measure.kind == "count":
        return F.when(condition, F.lit(1))
    value = F.col(measure.column or "")
    if measure.kind == "count_distinct":
        return F.when(condition, value)
    if measure.times:
        value = value * F.col(measure.times)
    return F.when(condition, value.cast("double"))
