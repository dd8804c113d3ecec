"""Contribution bounding: the whole numbers that a private aggregate adds noise to, of one share of the people.

Promise: a unit (a user, or a user on a day) is in at most `groups_per_unit` groups, with at most `rows_per_group` rows
in each and `rows_per_unit` in all, and every row adds at most what its measure is clamped to. Which groups and rows
stay depends on that unit's rows alone, so another unit's coming or going changes nothing for it: what sensitivity is
reckoned from.

They are chosen by a hash that begins with the unit's token, a keyed one, over the columns in use: nobody outside can
place rows first, the same data give the same choice, and rows alike in all these columns may stand for each other.
All rows of a unit are in one share; sorted once, every bound is a count along them. Pure functions of Polars frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

import polars as pl
import polars_hash  # noqa: F401 - registers the expression namespace `nchash`
from pyspark.sql import SparkSession

from privacy_platform.anonymization.dp.postprocess import Range
from privacy_platform.engine.aggregate import chosen_number, chosen_rows, dimension_key, joined_rows, span_within
from privacy_platform.engine.shares import Shares
from privacy_platform.policy.compile import UNKNOWN
from privacy_platform.policy.model import AggregatePolicy, Dimension, Measure
from privacy_platform.policy.privacy import DateKeys, Keys, LandedKeys, PrivacyPolicy, PrivacyUnit
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

__all__ = ["ALL_ROWS", "COMPLETE", "ROWS", "bounded", "bounded_answers", "bounded_rows"]

ROWS = "_rows"
ALL_ROWS = "_all_rows"
COMPLETE = "_complete"
_UNIT, _FOUND, _GROUP, _ROW = "__unit", "__found", "__group", "__row"
_NUMBER, _RANK, _STAYS, _BEGINS = "__number", "__rank", "__stays", "__begins"


def bounded_rows(policy: AggregatePolicy, source: pl.DataFrame, joined: pl.DataFrame | None) -> pl.DataFrame:
    """The rows of a share in the order that bounds count along: by unit, by group, by row.

    With joined and derived columns, dimensions as `__<name>`, and whether every required dimension has a value.
    """
    privacy = _privacy(policy)
    used = [name for name in source.columns if name != policy.unit]
    rows = joined_rows(policy, source, joined)
    # Spans lie within the unit, which can be one of a day; a span can be a dimension itself.
    derived = {name: d for name, d in policy.dimensions.items() if d.column in policy.derive}
    rows = rows.with_columns(
        _keys(policy, rows.schema, {n: d for n, d in policy.dimensions.items() if n not in derived})
    )
    unit = [policy.unit, *([f"__{policy.day_dimension}"] if privacy.unit is PrivacyUnit.USER_DAY else [])]
    # Within the unit: a session of two people, or two days, must not carry one's doings into the other's figures.
    rows = rows.with_columns(span_within(span, unit).alias(name) for name, span in policy.derive.items())
    rows = rows.with_columns(_keys(policy, rows.schema, derived))
    required = [pl.col(f"__{n}").is_not_null() for n, d in policy.dimensions.items() if d.required]
    rows = rows.with_columns(reduce(lambda a, b: a & b, required, pl.lit(True)).alias(COMPLETE))
    # One order for every step: groups by a hash, those of the same found keys next to each other, and rows by a hash
    # within. Groups whose hashes are equal would count as one: less, never more.
    found = _hash(policy.unit, [f"__{name}" for name in found_dimensions(policy)])
    rows = rows.with_columns(
        pl.struct(pl.col(policy.unit).cast(pl.Categorical).to_physical(), *unit[1:]).alias(_UNIT),
        pl.when(pl.col(COMPLETE)).then(found).alias(_FOUND),
        _hash(policy.unit, [f"__{name}" for name in policy.dimensions]).alias(_GROUP),
        _hash(policy.unit, used).alias(_ROW),
    )
    return rows.sort(_UNIT, _FOUND, _GROUP, _ROW)


def bounded(policy: AggregatePolicy, rows: pl.DataFrame) -> pl.DataFrame:
    """One row a group: dimensions, the columns of every query, and hidden counts; sums over the shares are the answers.

    `_people` counts the units that stay in the group, `_keys` those whose first group of the same found keys it is (so
    that its sum over these groups counts each unit once), `_rows` their rows, `_all_rows` those that were cut off too.
    Where `_complete` is false a required dimension has no value, or none of its known keys: nothing stays there.

    Args:
        policy: a private aggregate.
        rows: `bounded_rows` of a share.
    """
    privacy = _privacy(policy)
    rows = _staying_rows(privacy, rows)
    added = {column: value for name, m in policy.measures.items() for column, value in _added(policy, rows, name, m)}
    keys = [f"__{name}" for name in policy.dimensions]
    flat = rows.select(_NUMBER, _UNIT, _FOUND, *keys, COMPLETE, _STAYS, *(v.alias(c) for c, v in added.items()))
    groups = flat.group_by(_NUMBER, maintain_order=True).agg(
        *(pl.col(name).first() for name in (_UNIT, _FOUND, *keys, COMPLETE)),
        pl.len().cast(pl.Int64).alias(ALL_ROWS),
        pl.col(_STAYS).sum().cast(pl.Int64).alias(ROWS),
        *(pl.col(column).sum() for column in added),
    )
    for name, measure in policy.measures.items():
        if measure.kind == "count_distinct" and measure.where:
            groups = groups.with_columns(pl.col(query_column(name)).clip(0, 1))
        elif measure.once_per:
            once = _once(privacy, rows, name, measure)
            groups = groups.join(once, on=_NUMBER, how="left", maintain_order="left").with_columns(
                pl.col(column).fill_null(0) for column in once.columns if column != _NUMBER
            )
    groups = _staying_groups(policy, privacy, groups)
    answers = [column for column in groups.columns if column.startswith("_q_")]
    stays = pl.col(_STAYS)
    return groups.group_by(pl.col(key).alias(name) for key, name in zip(keys, policy.dimensions, strict=True)).agg(
        pl.col(COMPLETE).first(),
        pl.col(ALL_ROWS).sum(),
        *(pl.col(name).filter(stays).sum().cast(pl.Int64) for name in (ROWS, *answers)),
        stays.sum().cast(pl.Int64).alias(PEOPLE),
        (stays & pl.col(_BEGINS)).sum().cast(pl.Int64).alias(KEYS),
    )


def bounded_answers(spark: SparkSession, policy: AggregatePolicy, shares: Shares) -> pl.DataFrame:
    """The answers of all shares together: `bounded` of everybody."""
    together = pl.concat(shares.computed(spark, _bounded))
    sums = [name for name in together.columns if name not in (*policy.dimensions, COMPLETE)]
    return together.group_by(list(policy.dimensions)).agg(pl.col(COMPLETE).first(), pl.col(sums).sum())


def _bounded(policy: AggregatePolicy, source: pl.DataFrame, joined: pl.DataFrame | None) -> pl.DataFrame:
    return bounded(policy, bounded_rows(policy, source, joined))


def _privacy(policy: AggregatePolicy) -> PrivacyPolicy:
    assert policy.privacy is not None  # noqa: S101 - only for private aggregates
    return policy.privacy


def _hash(unit: str, columns: Sequence[str]) -> pl.Expr:
    """A hash of some columns of a row that begins with its unit; the same in every run and on every machine."""
    texts = [pl.col(name).to_physical().cast(pl.String).fill_null("\x00") for name in (unit, *columns)]
    return pl.concat_str(texts, separator="\x1f").nchash.xxhash64()  # type: ignore[attr-defined,no-any-return]


def _keys(policy: AggregatePolicy, schema: pl.Schema, dimensions: Mapping[str, Dimension]) -> Iterator[pl.Expr]:
    known = _privacy(policy).known
    for name, dimension in dimensions.items():
        yield _key_of(dimension, schema[dimension.column], known.get(name)).alias(f"__{name}")


def _key_of(dimension: Dimension, kind: pl.DataType, known: Keys | None) -> pl.Expr:
    """A row's value of a dimension; what is not among the known keys is taken for missing."""
    value = dimension_key(dimension, kind)
    if known is None or isinstance(known, LandedKeys):
        return value
    if isinstance(known, DateKeys):
        return pl.when(value.is_between(known.first, known.last)).then(value)
    text = pl.col(dimension.column).cast(pl.String)
    value = pl.when(text.is_in(list(known.keys()))).then(text)
    return value if dimension.required else value.fill_null(UNKNOWN)


def _begins(*columns: str) -> pl.Expr:
    """Whether a row is the first of those that are alike in some columns, which lie next to each other."""
    changes = (pl.col(name).ne_missing(pl.col(name).shift()) for name in columns)
    return reduce(lambda a, b: a | b, changes) | (pl.int_range(pl.len()) == 0)


def _so_far(counts: pl.Expr, begins: pl.Expr) -> pl.Expr:
    """The sum of numbers from where the present stretch of rows begins up to each row."""
    total = counts.cast(pl.Int64).cum_sum()
    return total - pl.when(begins).then(total - counts.cast(pl.Int64)).forward_fill()


def _rank(begins: pl.Expr) -> pl.Expr:
    """The place of a row, from 1, in its stretch of rows."""
    place = pl.int_range(pl.len(), dtype=pl.Int64)
    return place - pl.when(begins).then(place).forward_fill() + 1


def _staying_rows(privacy: PrivacyPolicy, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the number of their group, their rank in it, and whether the bounds on rows let them stay."""
    begins = _begins(_UNIT, _FOUND, _GROUP)
    rows = rows.with_columns(begins.cum_sum().alias(_NUMBER), _rank(begins).alias(_RANK))
    rows = rows.with_columns((pl.col(COMPLETE) & (pl.col(_RANK) <= privacy.rows_per_group)).alias(_STAYS))
    if privacy.rows_per_unit is not None:
        so_far = _so_far(pl.col(_STAYS), _begins(_UNIT))
        rows = rows.with_columns(pl.col(_STAYS) & (so_far <= privacy.rows_per_unit))
    return rows


def _staying_groups(policy: AggregatePolicy, privacy: PrivacyPolicy, groups: pl.DataFrame) -> pl.DataFrame:
    """The units' groups, whether they stay within the bounds on groups, and whether new found keys begin with them."""
    first = _begins(_UNIT)
    stays = pl.col(COMPLETE) & (_so_far(pl.col(COMPLETE), first) <= privacy.groups_per_unit)
    if KEYS not in {query.name for query in queries_of(policy)}:
        return groups.with_columns(stays.alias(_STAYS), pl.lit(False).alias(_BEGINS))
    # A difference of a hash's values is a difference of keys: in order, a new one begins where it changes.
    groups = groups.with_columns((pl.col(COMPLETE) & _begins(_UNIT, _FOUND)).alias(_BEGINS))
    within = _so_far(pl.col(_BEGINS), first) <= (privacy.keys_per_unit or privacy.groups_per_unit)
    return groups.with_columns((stays & within).alias(_STAYS))


def _added(policy: AggregatePolicy, rows: pl.DataFrame, name: str, measure: Measure) -> Iterator[tuple[str, pl.Expr]]:
    """What a row adds to each query of a measure, 0 where nothing; a mean with `once_per` is no sum over rows."""
    if measure.kind == "ratio" or measure.once_per or (measure.kind == "count_distinct" and not measure.where):
        return  # made of other measures; the number of units itself
    privacy = _privacy(policy)
    counts = chosen_rows(measure, rows.schema).fill_null(False) & pl.col(_STAYS)
    counts &= pl.col(_RANK) <= privacy.rows(name)
    if measure.kind in ("count", "count_distinct"):
        yield query_column(name), counts.cast(pl.Int64)
        return
    value = chosen_number(measure)
    if measure.kind in ("histogram", "quantile"):
        edges = bin_edges(policy, name)
        # A quantile's values are cut to its clamp, so all are in a bin; a histogram leaves others out.
        value = value if measure.kind == "histogram" else _cut(value, clamp_of(privacy, name))
        last = len(edges) - 2
        for i in range(last + 1):
            below = value <= edges[i + 1] if i == last and measure.kind == "quantile" else value < edges[i + 1]
            inside = (counts & (value >= edges[i]) & below).fill_null(False)
            yield query_column(name, str(i + 1)), inside.cast(pl.Int64)
        return
    yield from _sums(measure, name, clamp_of(privacy, name), value, counts)


def _sums(measure: Measure, name: str, clamp: Range, value: pl.Expr, counts: pl.Expr) -> Iterator[tuple[str, pl.Expr]]:
    """The fixed-point sums of a sum, mean or variance, and their count."""

    def steps(share: pl.Expr) -> pl.Expr:
        return pl.when(counts).then(_steps(share)).fill_null(0)

    cut = _cut(value, clamp)
    if measure.kind == "sum":
        yield query_column(name), steps(cut / max(abs(clamp.low), abs(clamp.high)))
        return
    distance = (cut - clamp.middle) / clamp.half
    yield query_column(name, "sum"), steps(distance)
    yield query_column(name, "count"), (counts & value.is_not_null()).cast(pl.Int64)
    if measure.kind == "variance":
        yield query_column(name, "squares"), steps(2 * distance * distance - 1)


def _once(privacy: PrivacyPolicy, rows: pl.DataFrame, name: str, measure: Measure) -> pl.DataFrame:
    """Sum and count, by group, of a mean in which each value of a column counts once, so many of them at most."""
    clamp = clamp_of(privacy, name)
    value = chosen_number(measure)
    counts = chosen_rows(measure, rows.schema).fill_null(False) & pl.col(_STAYS) & value.is_not_null()
    by = pl.col(measure.once_per or "")
    pairs = rows.filter(counts).select(
        _NUMBER,
        _hash(measure.once_per or "", []).alias("__order"),
        by.alias("__by"),
        _steps((_cut(value, clamp) - clamp.middle) / clamp.half).alias("__value"),
    )
    pairs = pairs.unique().sort(_NUMBER, "__order", "__by", "__value")
    return (
        pairs.filter(_rank(_begins(_NUMBER)) <= privacy.rows(name))
        .group_by(_NUMBER)
        .agg(
            pl.col("__value").sum().alias(query_column(name, "sum")),
            pl.len().cast(pl.Int64).alias(query_column(name, "count")),
        )
    )


def _cut(value: pl.Expr, clamp: Range) -> pl.Expr:
    """The value within its clamp; a NaN, which is above all numbers, becomes its upper end."""
    return pl.when(value.is_nan()).then(clamp.high).otherwise(value.clip(clamp.low, clamp.high))


def _steps(share: pl.Expr) -> pl.Expr:
    """A number from -1 to 1 in fixed point, and never beyond however it was rounded."""
    return (share * float(STEPS)).round().cast(pl.Int64).clip(-STEPS, STEPS)
