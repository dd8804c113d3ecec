"""Thinning out before contribution bounding: rows that no bound lets stay leave before rows are shuffled by unit.

A unit's rows all go through one task. One with a tenth of all rows would keep that task busy long after all others.
Therefore its rows are first dealt out by what they can be told apart by (dimensions, and a part drawn by hash), and of
each such pile only as many stay as a unit may have rows in a group: those that come first in the order that bounding
chooses by. All that bounding would choose is among them, so its result is the same.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from privacy_platform.engine.spark_columns import dimension_value, with_span
from privacy_platform.policy.compile import UNKNOWN
from privacy_platform.policy.model import AggregatePolicy, Dimension
from privacy_platform.policy.privacy import DateKeys, Keys, LandedKeys, PrivacyPolicy, PrivacyUnit

__all__ = ["WEIGHT", "key_of", "thinned", "unit_of"]

WEIGHT = "_weight"
# So many tasks at the most share the rows that one unit has in one group; and so many times the rows that may stay of
# them go on to the one task that sees all of the unit.
_PARTS = 8


def unit_of(policy: AggregatePolicy, privacy: PrivacyPolicy) -> list[str]:
    """The columns that tell units apart; that of the day is the day dimension's key."""
    return [policy.unit, *([f"__{policy.day_dimension}"] if privacy.unit is PrivacyUnit.USER_DAY else [])]


def key_of(dimension: Dimension, known: Keys | None) -> Column:
    """A row's value of a dimension; what is not among the known keys is taken for missing."""
    if known is None or isinstance(known, LandedKeys):
        return dimension_value(dimension)
    if isinstance(known, DateKeys):
        value = dimension_value(dimension)
        return F.when(value.between(F.lit(known.first), F.lit(known.last)), value)
    text = F.col(dimension.column).cast("string")
    value = F.when(text.isin(*known.keys()), text)
    return value if dimension.required else F.coalesce(value, F.lit(UNKNOWN))


def thinned(policy: AggregatePolicy, privacy: PrivacyPolicy, source: DataFrame) -> DataFrame:
    """The source's rows that may stay, with the derived columns, and in `_weight` how many rows each stands for.

    Args:
        policy: what to compute.
        privacy: its bounds.
        source: the anonymized table's columns.
    """
    own = {name: d for name, d in policy.dimensions.items() if d.column in source.columns}
    rows = source.select(
        "*",
        *(key_of(dimension, privacy.known.get(name)).alias(f"__{name}") for name, dimension in own.items()),
        F.xxhash64(policy.unit, *(name for name in source.columns if name != policy.unit)).alias("__row"),
    )
    # What is joined, and may be a dimension, depends on what it is joined by.
    pile = [policy.unit, *(f"__{name}" for name in own), *([policy.join.by] if policy.join else [])]
    drawn = Window.partitionBy(*dict.fromkeys(pile), F.pmod("__row", F.lit(_PARTS)))
    most = privacy.rows_per_group
    rank, size = F.col("__rank"), F.col("__size")
    stay = (
        rows.withColumn("__rank", F.row_number().over(drawn.orderBy("__row")))
        .withColumn("__size", F.count(F.lit(1)).over(drawn))
        .where(rank <= most)
        .withColumn(WEIGHT, F.when(rank == most, size - most + 1).otherwise(F.lit(1)))
    )
    for name, span in policy.derive.items():
        stay = with_span(stay, rows, name, span, [*unit_of(policy, privacy), span.by])
    return stay.select(*source.columns, *policy.derive, WEIGHT)
