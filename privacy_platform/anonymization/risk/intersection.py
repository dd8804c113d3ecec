"""Who is exposed by two successive releases together, though each is k-anonymous by itself.

An adversary who knows a person's quasi-identifiers at both times, or who follows the token, looks for them in the class
they were in then *and* in the class they are in now. That candidate set can be much smaller than k. Being absent from a
release is a class too: of the people of one class of the old release, those who left are told apart from those who
stayed. (Ganta, Kasiviswanathan & Smith 2008, composition attacks; Xiao & Tao 2007, m-invariance.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

__all__ = ["Intersection", "intersect"]


@dataclass(frozen=True, slots=True)
class Intersection:
    """What two releases show together.

    Attributes:
        k: the smallest candidate set that is no exposure.
        people: people in either release.
        stayed: people in both.
        joined: people in the new release only.
        left: people in the old release only.
        exposed: people whose candidate set is smaller than k.
        smallest: the smallest candidate set; 0 if there are no people.
    """

    k: int
    people: int
    stayed: int
    joined: int
    left: int
    exposed: int
    smallest: int


def intersect(old: pl.DataFrame, new: pl.DataFrame, key: str, quasi_identifiers: Sequence[str], k: int) -> Intersection:
    """Intersect two releases.

    Args:
        old: the standing release: one record a person.
        new: its successor.
        key: the column that names the person in both, not null.
        quasi_identifiers: columns of both. Null is a value.
        k: the smallest candidate set that is no exposure.
    """
    names = list(quasi_identifiers)

    def side(frame: pl.DataFrame, prefix: str) -> pl.DataFrame:
        renamed = {name: f"{prefix}{name}" for name in names}
        return frame.select(pl.col(key).alias("key"), *(pl.col(a).alias(b) for a, b in renamed.items())).with_columns(
            pl.lit(True).alias(f"{prefix}there")
        )

    both = side(old, "old ").join(side(new, "new "), on="key", how="full", coalesce=True)
    groups = both.group_by(pl.all().exclude("key")).agg(pl.len().cast(pl.Int64).alias("n"))
    stayed = pl.col("old there") & pl.col("new there")
    row = groups.select(
        people=pl.col("n").sum(),
        stayed=pl.col("n").filter(stayed.fill_null(False)).sum(),
        joined=pl.col("n").filter(pl.col("old there").is_null()).sum(),
        left=pl.col("n").filter(pl.col("new there").is_null()).sum(),
        exposed=pl.col("n").filter(pl.col("n") < k).sum(),
        smallest=pl.col("n").min().fill_null(0),
    ).row(0, named=True)
    return Intersection(k=k, **row)
