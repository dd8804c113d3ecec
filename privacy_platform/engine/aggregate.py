"""Aggregates in Spark SQL: groups, measures, and the number of people in each group.

Pure functions of DataFrames; which columns exist and of what type is settled when policies are loaded.
"""

from functools import reduce
from itertools import pairwise

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from privacy_platform.policy.compile import UNKNOWN
from privacy_platform.policy.model import AggregatePolicy, Dimension, Measure, Span
from privacy_platform.policy.private import PEOPLE

# Hidden columns begin with an underscore, as no name in a policy can.
ROWS = "_rows"
_SPREAD = 64


def people_of(figure: str) -> str:
    """The hidden column that counts the people behind a figure."""
    return f"_people_{figure}"


def counted_figures(policy: AggregatePolicy) -> list[str]:
    """The figures whose people are counted: all but ratios, which are made of them."""
    return [figure for name, m in policy.measures.items() if m.kind != "ratio" for figure in m.figures(name)]


def aggregate(
    policy: AggregatePolicy, source: DataFrame, joined: DataFrame | None, *, heavy_spans: bool = False
) -> DataFrame:
    """One row a group: the dimensions, the measures, and hidden counts.

    `_people` counts the group's people, `_people_<figure>` those whose rows a figure is made of, `_rows` the rows.
    A figure of fewer people than the policy's minimum, but not of nobody, is null: in a group of many, the revenue
    of the one who bought is that one's. Groups with a null required dimension are there too, to be counted.

    Args:
        policy: what to compute.
        source: the anonymized table's columns.
        joined: the table of `policy.join`, if there is one.
        heavy_spans: some rows that share a span are so many that no task should get them all.
    """
    rows = joined_rows(policy, source, joined)
    for name, span in policy.derive.items():
        if heavy_spans:
            rows = with_span(rows, rows, name, span, [span.by])
        else:
            # Rows without a span are spread: there may be many, and they have nothing to do with one another.
            spread = F.when(F.col(span.by).isNull(), F.pmod(F.xxhash64(span.span), F.lit(_SPREAD)))
            rows = rows.withColumn(name, span_seconds(span, Window.partitionBy(span.by, spread)))
    names = list(policy.dimensions)
    rows = rows.select("*", *(dimension_value(d).alias(f"__{name}") for name, d in policy.dimensions.items()))
    keys = [F.col(f"__{name}").alias(name) for name in names]
    groups = _groups(policy, rows, keys)
    for name, measure in policy.measures.items():
        if measure.once_per:
            once = rows.where(F.col(measure.once_per).isNotNull()).select(
                *keys, measure.once_per, F.col(measure.column or "").alias("__value")
            )
            groups = _beside(groups, once.distinct().groupBy(*names).agg(F.avg("__value").alias(name)), names)
        elif measure.kind in ("variance", "quantile"):
            value = F.when(condition(measure), chosen_value(measure))
            found = F.var_pop(value) if measure.kind == "variance" else F.percentile(value, F.lit(measure.q))
            groups = _beside(groups, rows.groupBy(*keys).agg(found.alias(name)), names)
    for name in counted_figures(policy):
        people = F.col(people_of(name))
        enough = (people == 0) | (people >= policy.minimum_group_size)
        groups = groups.withColumn(name, F.when(enough, F.col(name)))
    for name, measure in policy.measures.items():
        if measure.kind == "ratio":
            below = F.col(measure.denominator or "")
            groups = groups.withColumn(name, F.when(below != 0, F.col(measure.numerator or "") / below))
    figures = [figure for name, measure in policy.measures.items() for figure in measure.figures(name)]
    return groups.select(*names, *figures, PEOPLE, *map(people_of, counted_figures(policy)), ROWS)


def joined_rows(policy: AggregatePolicy, source: DataFrame, joined: DataFrame | None) -> DataFrame:
    """The source's rows with the columns of `policy.join`, if there is one."""
    if policy.join is None or joined is None:
        return source
    return source.join(joined.select(policy.join.by, *policy.join.columns), on=policy.join.by, how="left")


def _beside(groups: DataFrame, found: DataFrame, names: list[str]) -> DataFrame:
    """The groups with one more figure, computed by itself."""
    figure = next(name for name in found.columns if name not in names)
    same = reduce(lambda a, b: a & b, (groups[key].eqNullSafe(found[key]) for key in names))
    return groups.join(found, on=same, how="left").select(groups["*"], found[figure])


def _groups(policy: AggregatePolicy, rows: DataFrame, keys: list[Column]) -> DataFrame:
    """Counts, sums and means, by way of a row for each person in each group: people are counted without `distinct`."""
    counted = [(n, m) for n, m in policy.measures.items() if m.kind != "ratio"]
    adding = {figure: value for n, m in counted for figure, value in zip(m.figures(n), _chosen(m), strict=True)}
    summed = {name for name, measure in counted if measure.kind in ("sum", "mean")}
    persons = rows.groupBy(*keys, policy.unit).agg(
        F.count(F.lit(1)).alias(ROWS),
        *(F.count(value).alias(f"__n_{figure}") for figure, value in adding.items()),
        *(F.sum(value).alias(f"__s_{figure}") for figure, value in adding.items() if figure in summed),
    )
    columns = []
    for name, measure in counted:
        for figure in measure.figures(name):
            count, people = F.sum(f"__n_{figure}"), F.count(F.when(F.col(f"__n_{figure}") > 0, F.lit(1)))
            columns.append(people.alias(people_of(figure)))
            if measure.kind == "count_distinct":
                columns.append(people.alias(figure))
            elif measure.kind in ("count", "histogram"):
                columns.append(count.alias(figure))
            elif measure.kind == "sum":  # a sum of no rows is zero, a mean of no rows unknown
                columns.append(F.coalesce(F.sum(f"__s_{figure}"), F.lit(0.0)).alias(figure))
            elif measure.kind == "mean" and not measure.once_per:
                columns.append(F.when(count > 0, F.sum(f"__s_{figure}") / count).alias(figure))
    return persons.groupBy(*policy.dimensions).agg(F.count(F.lit(1)).alias(PEOPLE), F.sum(ROWS).alias(ROWS), *columns)


def span_seconds(span: Span, window: WindowSpec) -> Column:
    """Seconds from the first to the last value among the rows of the window; null where a row belongs to none."""
    last, first = F.unix_micros(F.max(span.span).over(window)), F.unix_micros(F.min(span.span).over(window))
    return F.when(F.col(span.by).isNotNull(), (last - first) / 1e6)


def with_span(rows: DataFrame, of: DataFrame, name: str, span: Span, keys: list[str]) -> DataFrame:
    """The rows with their span among the rows of another frame; added up before it is shuffled, unlike a window's.

    Args:
        rows: the rows.
        of: all rows that share the spans.
        name: the new column.
        span: what it is.
        keys: the columns that tell spans apart, `span.by` among them.
    """
    last, first = F.unix_micros(F.max(span.span)), F.unix_micros(F.min(span.span))
    spans = of.where(F.col(span.by).isNotNull()).groupBy(*keys).agg(((last - first) / 1e6).alias(name))
    # Under other names: both sides can come from the same frame.
    spans = spans.select(*(F.col(key).alias(f"{key}_of_span") for key in keys), name)
    same = reduce(lambda a, b: a & b, (F.col(key).eqNullSafe(F.col(f"{key}_of_span")) for key in keys))
    return rows.join(spans, on=same, how="left").drop(*(f"{key}_of_span" for key in keys))


def dimension_value(dimension: Dimension) -> Column:
    """A row's value of a dimension."""
    column = F.col(dimension.column)
    if dimension.truncate:
        return F.to_date(F.date_trunc(dimension.truncate, column))
    return column if dimension.required else F.coalesce(column.cast("string"), F.lit(UNKNOWN))


def condition(measure: Measure) -> Column:
    """Whether a row counts for a measure."""
    found = reduce(lambda a, b: a & b, (F.col(c) == v for c, v in measure.where.items()), F.lit(True))
    return found & F.col(measure.once_per).isNotNull() if measure.once_per else found


def chosen_value(measure: Measure) -> Column:
    """A row's value of a measure that has a column."""
    value = F.col(measure.column or "")
    return (value * F.col(measure.times) if measure.times else value).cast("double")


def _chosen(measure: Measure) -> list[Column]:
    """What a row adds to each figure of a measure; null where it adds nothing."""
    if measure.kind == "count":
        return [F.when(condition(measure), F.lit(1))]
    if measure.kind == "count_distinct":
        return [F.when(condition(measure), F.col(measure.column or ""))]
    value = chosen_value(measure)
    if measure.kind == "histogram":
        ranges = pairwise(measure.edges)
        return [F.when(condition(measure) & (value >= low) & (value < high), F.lit(1)) for low, high in ranges]
    return [F.when(condition(measure), value)]
