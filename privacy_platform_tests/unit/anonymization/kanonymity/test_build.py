"""Ladders: what becomes of the values that occur, level by level, and the loss by hand."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from privacy_platform.anonymization.hierarchies import Dates, HierarchyError, Intervals, Prefixes, read
from privacy_platform.anonymization.kanonymity.build import fixed_ladder, ladder


def base(hierarchy, values, level, dtype=None):
    frame = pl.DataFrame({"v": pl.Series(values, dtype=dtype)})
    return frame.select(hierarchy.generalize(pl.col("v"), level)).to_series()


def shown(made):
    """For each level, what each base value becomes and its loss."""
    return {
        level: [(labels[code], round(float(losses[code]), 6)) for code in codes]
        for level, codes, labels, losses in zip(made.levels, made.codes, made.labels, made.losses, strict=True)
    }


@pytest.fixture
def fruit(tmp_path):
    path = tmp_path / "fruit.csv"
    path.write_text("Apple;rose;*\nPear;rose;*\nPlum;rose;*\nLemon;rue;*\nLime;rue;*\n")
    return read(path)


def test_table_counts_the_leaves_of_the_file(fruit):
    values = ["Apple", "Lemon", "Fig", None]
    made = ladder("fruit", fruit, base(fruit, values, "level_0"), finest="level_0")
    assert shown(made) == {
        "level_0": [("Apple", 0), ("Lemon", 0), ("*", 1), (None, 0)],
        "level_1": [("rose", 0.5), ("rue", 0.25), ("*", 1), (None, 0)],
        "*": [("*", 1)] * 4,
    }
    assert made.codes[0].dtype == np.int32
    assert made.losses[0].dtype == np.float64


def test_table_from_a_coarser_level(fruit):
    made = ladder("fruit", fruit, base(fruit, ["Lime", "Pear", "Plum"], "level_1"), finest="level_1")
    assert shown(made) == {
        "level_1": [("rue", 0.25), ("rose", 0.5), ("rose", 0.5)],
        "*": [("*", 1)] * 3,
    }
    pinned = ladder("fruit", fruit, pl.Series(["rue"]), finest="level_1", coarsest="level_1")
    assert shown(pinned) == {"level_1": [("rue", 0.25)]}
    with pytest.raises(HierarchyError, match="finer"):
        ladder("fruit", fruit, pl.Series(["rue"]), finest="*", coarsest="level_1")


def test_intervals_count_the_domain():
    ages = Intervals(domain=(0, 100), edges=((0, 20, 50), (0, 50)))
    made = ladder("age", ages, base(ages, [7, 30, 99, 300, None], "level_0"), finest="level_0")
    assert shown(made) == {
        "level_0": [("7", 0), ("30", 0), ("99", 0), ("*", 1), (None, 0)],
        "level_1": [("0-19", 0.19), ("20-49", 0.29), ("50+", 0.5), ("*", 1), (None, 0)],
        "level_2": [("0-49", 0.49), ("0-49", 0.49), ("50+", 0.5), ("*", 1), (None, 0)],
        "*": [("*", 1)] * 5,
    }
    assert shown(ladder("age", ages, pl.Series(["20-49", "50+"]), finest="level_1"))["level_1"] == [
        ("20-49", 0.29),
        ("50+", 0.5),
    ]


def test_dates_count_the_days_of_the_observed_span():
    dates = Dates(periods=("day", "month", "year"))
    values = [date(2023, 12, 31), date(2024, 2, 5), date(2024, 12, 30), None]
    made = ladder("d", dates, base(dates, values, "day"), finest="day")
    span = 366  # 2023-12-31 to 2024-12-30
    month, leap = round(28 / (span - 1), 6), 1
    assert shown(made)["day"] == [("2023-12-31", 0), ("2024-02-05", 0), ("2024-12-30", 0), (None, 0)]
    assert shown(made)["month"][1:] == [("2024-02", month), ("2024-12", round(30 / (span - 1), 6)), (None, 0)]
    assert shown(made)["year"][1] == ("2024", leap)
    single = ladder("d", dates, pl.Series(["2024-02-05"]), finest="day")
    assert shown(single) == {
        "day": [("2024-02-05", 0)], "month": [("2024-02", 0)], "year": [("2024", 0)], "*": [("*", 1)],
    }  # fmt: skip


def test_prefixes_count_the_codes_that_occur():
    codes = Prefixes(lengths=(3, 1))
    values = ["92101", "92102", "92500", "10001", "x", None]
    made = ladder("zip", codes, base(codes, values, "code"), finest="code")
    assert shown(made)["prefix_3"] == [
        ("921**", 0.25), ("921**", 0.25), ("925**", 0), ("100**", 0), ("*", 1), (None, 0),
    ]  # fmt: skip
    assert shown(made)["prefix_1"][:4] == [("9****", 0.5)] * 3 + [("1****", 0)]
    finest = ladder("zip", codes, pl.Series(["921**", "925**", "100**"]), finest="prefix_3")
    assert shown(finest)["prefix_3"] == [("921**", 0), ("925**", 0), ("100**", 0)]
    assert shown(finest)["prefix_1"] == [("9****", 0.5), ("9****", 0.5), ("1****", 0)]


def test_every_level_is_a_function_of_the_one_before(fruit):
    values = pl.Series(["Apple", "Pear", "*", None, "Lemon"])
    made = ladder("fruit", fruit, values, finest="level_0")
    for fine, coarse in zip(made.codes, made.codes[1:], strict=False):
        assert len({(int(a), int(b)) for a, b in zip(fine, coarse, strict=True)}) == len(set(fine.tolist()))


def test_nothing_occurs(fruit):
    made = ladder("fruit", fruit, pl.Series([], dtype=pl.String), finest="level_0")
    assert made.labels == ((), (), ())


def test_fixed_column():
    made = fixed_ladder("gender", pl.Series(["m", None, "f"]))
    assert shown(made) == {"value": [("m", 0), (None, 0), ("f", 0)]}
