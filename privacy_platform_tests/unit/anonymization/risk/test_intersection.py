"""Two releases intersected, by hand and by definition."""

from collections import Counter

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from privacy_platform.anonymization.risk.intersection import Intersection, intersect

OLD = pl.DataFrame({"t": list("abcdef"), "q": ["x", "x", "x", None, None, None]})


def test_the_same_release_twice_exposes_nobody_new() -> None:
    assert intersect(OLD, OLD, "t", ["q"], 3) == Intersection(3, 6, 6, 0, 0, exposed=0, smallest=3)


def test_who_changes_class_alone_is_exposed_though_both_releases_are_anonymous() -> None:
    # c moves to the other class: two classes of two and four, and yet c is the only one who was x and is null.
    new = pl.DataFrame({"t": list("abcdef"), "q": ["x", "x", None, None, None, None]})

    assert intersect(OLD, new, "t", ["q"], 2) == Intersection(2, 6, 6, 0, 0, exposed=1, smallest=1)
    assert intersect(OLD, new, "t", ["q"], 3).exposed == 3  # a and b are two of them


def test_absence_is_a_class() -> None:
    new = pl.DataFrame({"t": list("abdefgh"), "q": ["x", "x", None, None, None, "x", "x"]})

    # c has left, alone of the x; g and h have joined as x.
    assert intersect(OLD, new, "t", ["q"], 3) == Intersection(
        3, people=8, stayed=5, joined=2, left=1, exposed=5, smallest=1
    )


def test_nobody() -> None:
    assert intersect(OLD.clear(), OLD.clear(), "t", ["q"], 2) == Intersection(2, 0, 0, 0, 0, 0, 0)


releases = st.dictionaries(st.integers(0, 30), st.tuples(st.sampled_from(["x", "y", None]), st.booleans()))


@given(releases, releases, st.integers(2, 5))
def test_by_definition(
    old: dict[int, tuple[str | None, bool]], new: dict[int, tuple[str | None, bool]], k: int
) -> None:
    def frame(release: dict[int, tuple[str | None, bool]]) -> pl.DataFrame:
        rows = [(person, *values) for person, values in release.items()]
        return pl.DataFrame(rows, {"t": pl.Int64, "q": pl.String, "r": pl.Boolean}, orient="row")

    candidates = Counter((old.get(person), new.get(person)) for person in old.keys() | new.keys())

    found = intersect(frame(old), frame(new), "t", ["q", "r"], k)

    assert found.exposed == sum(n for n in candidates.values() if n < k)
    assert found.smallest == min(candidates.values(), default=0)
    assert (found.stayed, found.people) == (len(old.keys() & new.keys()), len(old.keys() | new.keys()))
