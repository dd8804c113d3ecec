"""Exact aggregates of one share of the people, and the figures of all shares together.

All rows of a person are in one share, so people are counted within the shares and their numbers added up; no row leaves
its task. Pure functions of Polars frames; which columns exist and of what type is settled when policies are loaded.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import pairwise

import polars as pl

from privacy_platform.policy.compile import UNKNOWN
from privacy_platform.policy.model import AggregatePolicy, Dimension, Measure, Span
from privacy_platform.policy.private import PEOPLE

# Hidden columns begin with an underscore, as no name in a policy can.
ROWS = "_rows"
_TRUNCATED = {"day": "1d", "month": "1mo"}


def people_of(figure: str) -> str:
    """The hidden column that counts the people behind a figure."""
    return f"_people_{figure}"


def counted_figures(policy: AggregatePolicy) -> list[str]:
    """The figures whose people are counted: all but ratios, which are made of them."""
    return [figure for name, m in policy.measures.items() if m.kind != "ratio" for figure in m.figures(name)]


def prepared_rows(policy: AggregatePolicy, source: pl.DataFrame, joined: pl.DataFrame | None) -> pl.DataFrame:
    """The source's rows of a share with joined and derived columns, and the dimensions as `__<name>`.

    A span is one within a person's rows: whoever shares a session's name with another does not share the session.
    """
    rows = joined_rows(policy, source, joined)
    rows = rows.with_columns(span_within(span, [policy.unit]).alias(name) for name, span in policy.derive.items())
    schema = rows.schema
    keys = (dimension_key(d, schema[d.column]).alias(f"__{name}") for name, d in policy.dimensions.items())
    return rows.with_columns(keys)


def joined_rows(policy: AggregatePolicy, source: pl.DataFrame, joined: pl.DataFrame | None) -> pl.DataFrame:
    """The source's rows with the columns of `policy.join`, if there is one."""
    if policy.join is None or joined is None:
        return source
    return source.join(joined.select(policy.join.by, *policy.join.columns), on=policy.join.by, how="left")


def share_groups(policy: AggregatePolicy, rows: pl.DataFrame) -> pl.DataFrame:
    """One row a group of a share: the dimensions and what is added up over the shares.

    Args:
        policy: what to compute.
        rows: `prepared_rows` of all people of the share.
    """
    names = list(policy.dimensions)
    added = {figure: value for n, m in _measured(policy) for figure, value in _values(n, m, rows.schema)}
    summed = {name for name, measure in _measured(policy) if measure.kind in ("sum", "mean")}
    # As columns first: within a group a constant would count once and not once a row.
    flat = rows.select(
        *(pl.col(f"__{name}").alias(name) for name in names),
        pl.col(policy.unit).alias("__unit"),
        *(value.alias(f"__v_{figure}") for figure, value in added.items()),
    )
    persons = flat.group_by(*names, "__unit").agg(
        pl.len().cast(pl.Int64).alias(ROWS),
        *(pl.col(f"__v_{figure}").count().cast(pl.Int64).alias(f"__n_{figure}") for figure in added),
        *(pl.col(f"__v_{figure}").sum().alias(f"__s_{figure}") for figure in added if figure in summed),
    )
    groups = persons.group_by(names).agg(
        pl.len().cast(pl.Int64).alias(PEOPLE),
        pl.col(ROWS).sum(),
        *((pl.col(f"__n_{figure}") > 0).sum().cast(pl.Int64).alias(people_of(figure)) for figure in added),
        *(pl.col(f"__n_{figure}").sum() for figure in added),
        *(pl.col(f"__s_{figure}").sum() for figure in added if figure in summed),
    )
    for name, measure in _measured(policy):
        if measure.once_per:
            groups = beside(policy, groups.drop(f"__n_{name}", f"__s_{name}"), _once(policy, rows, name, measure))
        elif measure.kind == "variance":
            value = pl.col(f"__v_{name}")
            spread = ((value - value.mean()) ** 2).sum().alias(f"__m2_{name}")
            groups = beside(policy, groups, flat.group_by(names).agg(value.mean().alias(f"__mean_{name}"), spread))
    return groups


def merged_groups(policy: AggregatePolicy, shares: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row a group: the dimensions, the measures but quantiles, and hidden counts.

    `_people` counts the group's people, `_people_<figure>` those whose rows a figure is made of, `_rows` the rows.
    Groups with a null required dimension are there too, to be counted, of the rows that were read.

    Args:
        policy: what was computed.
        shares: `share_groups` of every share.
    """
    together = pl.concat(shares)
    counts = [PEOPLE, ROWS, *map(people_of, counted_figures(policy))]
    columns = [pl.col(name).sum() for name in counts]
    for name, measure in _measured(policy):
        for figure in measure.figures(name):
            columns += _merged(measure, figure)
    return together.group_by(list(policy.dimensions)).agg(columns)


def finished(policy: AggregatePolicy, groups: pl.DataFrame) -> pl.DataFrame:
    """The groups as they may be staged, with ratios.

    A figure of fewer people than the policy's minimum, but not of nobody, is null: in a group of many, the revenue of
    the one who bought is that one's.
    """
    shown = []
    for name in counted_figures(policy):
        people = pl.col(people_of(name))
        shown.append(pl.when((people == 0) | (people >= policy.minimum_group_size)).then(pl.col(name)).alias(name))
    groups = groups.with_columns(shown)
    ratios = [
        pl.when(pl.col(below) != 0).then(pl.col(above) / pl.col(below)).alias(name)
        for name, above, below in (
            (n, m.numerator or "", m.denominator or "") for n, m in policy.measures.items() if m.kind == "ratio"
        )
    ]
    figures = [figure for name, measure in policy.measures.items() for figure in measure.figures(name)]
    names = [*policy.dimensions, *figures, PEOPLE, *map(people_of, counted_figures(policy)), ROWS]
    return groups.with_columns(ratios).select(names)


def quantile_values(policy: AggregatePolicy, rows: pl.DataFrame, measure: Measure) -> pl.DataFrame:
    """The values that a quantile is of, as `value`, with their dimensions; it is no sum over shares."""
    keys = [pl.col(f"__{name}").alias(name) for name in policy.dimensions]
    return (
        rows.filter(chosen_rows(measure, rows.schema))
        .select(*keys, chosen_number(measure).alias("value"))
        .drop_nulls("value")
    )


def beside(policy: AggregatePolicy, groups: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The groups with more figures, computed by themselves."""
    return groups.join(found, on=list(policy.dimensions), how="left", nulls_equal=True)


def _measured(policy: AggregatePolicy) -> list[tuple[str, Measure]]:
    return [(name, measure) for name, measure in policy.measures.items() if measure.kind != "ratio"]


def span_within(span: Span, unit: Sequence[str]) -> pl.Expr:
    """Seconds from the first to the last value among the rows of a unit that share `by`; null where a row has none."""
    length = (pl.col(span.span).max() - pl.col(span.span).min()).over(*unit, span.by)
    return pl.when(pl.col(span.by).is_not_null()).then(length.dt.total_microseconds() / 1e6)


def dimension_key(dimension: Dimension, kind: pl.DataType) -> pl.Expr:
    """A row's value of a dimension."""
    column = pl.col(dimension.column)
    if dimension.truncate:
        return column.dt.truncate(_TRUNCATED[dimension.truncate]).cast(pl.Date)
    if dimension.required:
        return column
    if isinstance(kind, pl.Datetime):
        column = column.dt.strftime("%Y-%m-%d %H:%M:%S")
    return column.cast(pl.String).fill_null(UNKNOWN)


def _once(policy: AggregatePolicy, rows: pl.DataFrame, name: str, measure: Measure) -> pl.DataFrame:
    """Count and sum of a mean in which each value of a column counts once a person and group."""
    keys = [pl.col(f"__{key}").alias(key) for key in policy.dimensions]
    once = (
        rows.filter(chosen_rows(measure, rows.schema))
        .select(
            *keys,
            pl.col(policy.unit).alias("__unit"),
            pl.col(measure.once_per or "").alias("__once"),
            chosen_number(measure).alias("__value"),
        )
        .unique()  # all of it: of several values none is picked by chance
    )
    value = pl.col("__value")
    return once.group_by(list(policy.dimensions)).agg(
        value.count().cast(pl.Int64).alias(f"__n_{name}"), value.sum().alias(f"__s_{name}")
    )


def _merged(measure: Measure, figure: str) -> Iterator[pl.Expr]:
    """A figure of all shares."""
    count = pl.col(f"__n_{figure}").sum()
    if measure.kind == "count_distinct":
        yield pl.col(people_of(figure)).sum().alias(figure)
    elif measure.kind in ("count", "histogram"):
        yield count.alias(figure)
    elif measure.kind == "sum":  # a sum of no rows is zero, a mean of no rows unknown
        yield pl.col(f"__s_{figure}").sum().alias(figure)
    elif measure.kind == "mean":
        yield pl.when(count > 0).then(pl.col(f"__s_{figure}").sum() / count).alias(figure)
    elif measure.kind == "variance":
        # Chan, Golub and LeVeque 1979: the spread within the shares and that of their means.
        n, mean = pl.col(f"__n_{figure}"), pl.col(f"__mean_{figure}")
        whole = (n * mean).sum() / count
        spread = pl.col(f"__m2_{figure}").sum() + (n * (mean - whole) ** 2).sum()
        yield pl.when(count > 0).then(spread / count).alias(figure)


def _values(name: str, measure: Measure, schema: pl.Schema) -> list[tuple[str, pl.Expr]]:
    """What a row adds to each figure of a measure; null where it adds nothing."""
    chosen = chosen_rows(measure, schema)
    if measure.kind == "count":
        return [(name, pl.when(chosen).then(1))]
    if measure.kind == "count_distinct":
        return [(name, pl.when(chosen).then(pl.col(measure.column or "")))]
    value = chosen_number(measure)
    if measure.kind == "histogram":
        ranges = zip(measure.figures(name), pairwise(measure.edges), strict=True)
        return [(figure, pl.when(chosen & (value >= low) & (value < high)).then(1)) for figure, (low, high) in ranges]
    return [(name, pl.when(chosen).then(value))]


def chosen_rows(measure: Measure, schema: pl.Schema) -> pl.Expr:
    """Whether a row counts for a measure."""
    found = [pl.col(column) == _literal(value, schema[column]) for column, value in measure.where.items()]
    found += [pl.col(measure.once_per).is_not_null()] if measure.once_per else []
    return reduce(lambda a, b: a & b, found, pl.lit(True))


def _literal(value: str, kind: pl.DataType) -> pl.Expr:
    """A value of a policy's `where` in the type of its column; null, which equals nothing, if it is none."""
    if kind == pl.Boolean:
        return pl.lit({"true": True, "false": False}.get(value.lower()), dtype=pl.Boolean)
    if isinstance(kind, pl.Datetime):
        return pl.lit(value).str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    return pl.lit(value).cast(kind, strict=False)


def chosen_number(measure: Measure) -> pl.Expr:
    """A row's value of a measure that has a column."""
    value = pl.col(measure.column or "")
    return (value * pl.col(measure.times) if measure.times else value).cast(pl.Float64)
