"""A policy's dimensions, measures and spans as columns of Spark SQL, for what is computed on shuffled rows.

Pure functions of DataFrames; which columns exist and of what type is settled when policies are loaded.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from privacy_platform.policy.compile import UNKNOWN
from privacy_platform.policy.model import AggregatePolicy, Dimension, Measure, Span


def joined_rows(policy: AggregatePolicy, source: DataFrame, joined: DataFrame | None) -> DataFrame:
    """The source's rows with the columns of `policy.join`, if there is one."""
    if policy.join is None or joined is None:
        return source
    return source.join(joined.select(policy.join.by, *policy.join.columns), on=policy.join.by, how="left")


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
