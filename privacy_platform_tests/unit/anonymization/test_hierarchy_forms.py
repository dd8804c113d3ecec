"""The hierarchies written in policies: their labels, that they are trees, and what is refused."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from privacy_platform.anonymization.hierarchies import HierarchyError, HierarchyReference, load

PARSE = TypeAdapter(HierarchyReference).validate_python
AGES = {"intervals": {"domain": [0, 120], "edges": [[0, 18, 25, 35, 65], [0, 18, 65]]}}
WIDTHS = {"intervals": {"domain": [1, 100], "every": [5, 10, 20]}}
DATES = {"date": ["day", "month", "quarter", "year"]}
CODES = {"prefix": [3, 2, 1]}


def labels(hierarchy, values, level, dtype=None):
    frame = pl.DataFrame({"v": pl.Series(values, dtype=dtype)})
    return frame.select(hierarchy.generalize(pl.col("v"), level)).to_series().to_list()


def test_intervals_by_edges():
    ages = PARSE(AGES)
    assert ages.levels == ("level_0", "level_1", "level_2", "*")
    values = [0, 17, 18, 34, 64, 65, 120, 121, -1, None]
    assert labels(ages, values, "level_0") == ["0", "17", "18", "34", "64", "65", "120", "*", "*", None]
    assert labels(ages, values, "level_1") == [
        "0-17", "0-17", "18-24", "25-34", "35-64", "65+", "65+", "*", "*", None,
    ]  # fmt: skip
    assert labels(ages, values, "level_2") == [
        "0-17", "0-17", "18-64", "18-64", "18-64", "65+", "65+", "*", "*", None,
    ]  # fmt: skip
    assert labels(ages, values, "*") == ["*"] * 10
    assert labels(ages, ["34", "thirty", "", "NaN"], "level_1") == ["25-34", "*", "*", "*"]
    assert labels(ages, [17.9, 64.5, 120.5], "level_2") == ["0-17", "18-64", "65+"]


def test_intervals_by_width():
    hierarchy = PARSE(WIDTHS)
    assert labels(hierarchy, [1, 5, 6, 100, 101, 0], "level_1") == ["1-5", "1-5", "6-10", "96-100", "*", "*"]
    assert labels(hierarchy, [1, 100], "level_3") == ["1-20", "81-100"]
    uneven = PARSE({"intervals": {"domain": [0, 10], "every": [4]}})
    assert labels(uneven, [3, 4, 10], "level_1") == ["0-3", "4-7", "8-10"]


def test_dates():
    dates = PARSE(DATES)
    assert dates.levels == ("day", "month", "quarter", "year", "*")
    values = [date(2024, 3, 5), date(1999, 12, 31), None]
    for level, expected in {
        "day": ["2024-03-05", "1999-12-31", None],
        "month": ["2024-03", "1999-12", None],
        "quarter": ["2024-Q1", "1999-Q4", None],
        "year": ["2024", "1999", None],
        "*": ["*", "*", "*"],
    }.items():
        assert labels(dates, values, level) == expected
        assert labels(dates, [v and datetime(v.year, v.month, v.day, 23, tzinfo=UTC) for v in values], level) == (
            expected
        )


@pytest.mark.parametrize(
    ("level", "first"),
    [("day", date(2024, 5, 6)), ("month", date(2024, 5, 1)), ("quarter", date(2024, 4, 1)), ("year", date(2024, 1, 1))],
)
def test_dates_keep_their_type_in_a_global_recoding(level, first):
    dates = PARSE(DATES)
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    frame = pl.DataFrame(
        {"d": [date(2024, 5, 6), None], "t": pl.Series([moment, None], dtype=pl.Datetime("us", "UTC"))}
    )
    out = frame.select(dates.published(pl.col("d", "t"), level))
    assert out.schema == frame.schema
    assert out["d"].to_list() == [first, None]
    assert out["t"].to_list() == [datetime(first.year, first.month, first.day, tzinfo=UTC), None]
    hidden = frame.select(dates.published(pl.col("d", "t"), "*"))
    assert hidden.schema == frame.schema
    assert hidden.null_count().row(0) == (2, 2)


def test_prefixes():
    codes = PARSE(CODES)
    assert codes.levels == ("code", "prefix_3", "prefix_2", "prefix_1", "*")
    values = ["92101", "92101-1234", "sw1a 1aa", "921", "", "9２101", "a b!c", None]
    assert labels(codes, values, "code") == ["92101", "921011234", "SW1A1AA", "921", "*", "*", "*", None]
    assert labels(codes, values, "prefix_3") == ["921**", "921**", "SW1**", "*", "*", "*", "*", None]
    assert labels(codes, values, "prefix_1") == ["9****", "9****", "S****", "*", "*", "*", "*", None]
    assert labels(codes, [92101], "prefix_2") == ["92***"]


CASES = [
    (AGES, pl.Int64, st.integers(-5, 130)),
    (AGES, pl.Float64, st.floats(-5, 130) | st.just(float("nan"))),
    (WIDTHS, pl.Int64, st.integers(-5, 130)),
    (DATES, pl.Date, st.dates()),
    (CODES, pl.String, st.from_regex(r"[0-9A-Za-z]{2,6}", fullmatch=True) | st.text(max_size=5)),
    ("city", pl.String, st.sampled_from(["San Diego", " lima", "Nowhere", ""])),
    ("age", pl.Int64, st.integers(-5, 130)),
]


@pytest.mark.parametrize(("reference", "dtype", "values"), CASES, ids=lambda case: str(case)[:12])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_label_is_enough_to_know_every_coarser_one(reference, dtype, values, data):
    hierarchy = load(reference) if isinstance(reference, str) else PARSE(reference)
    drawn = data.draw(st.lists(st.none() | values, max_size=8))
    frame = pl.DataFrame({"v": pl.Series(drawn, dtype=dtype)})
    for n, fine in enumerate(hierarchy.levels):
        known = frame.select(v=hierarchy.generalize(pl.col("v"), fine))
        rule = hierarchy.output_rule([fine])
        assert known["v"].null_count() == (0 if fine == "*" else frame["v"].null_count())
        for label in known["v"].drop_nulls():
            assert label in rule.allowed or (rule.shape and pl.Series([label]).str.contains(f"^(?:{rule.shape})$")[0])
        for coarse in hierarchy.levels[n:]:
            coarser = known.select(v=hierarchy.coarsen(pl.col("v"), fine, coarse))
            assert coarser.equals(frame.select(v=hierarchy.generalize(pl.col("v"), coarse)))


def test_rules_do_not_let_finer_labels_pass():
    assert PARSE(AGES).output_rule(["level_1", "*"]).closed
    assert PARSE(AGES).output_rule(["level_2"]).allowed == {"0-17", "18-64", "65+", "*"}
    rule = PARSE(CODES).output_rule(["prefix_2", "prefix_1", "*"])
    assert not rule.closed
    shape = pl.Series([rule.shape])
    assert pl.Series(["92***", "9****", "921**", "92101"]).str.contains("^(?:" + shape[0] + ")$").to_list() == [
        True,
        True,
        False,
        False,
    ]
    assert not pl.Series(["2024-03"]).str.contains(f"^(?:{PARSE(DATES).output_rule(['year']).shape})$")[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"intervals": {"edges": [[0, 5]]}}, "Field required"),
        ({"intervals": {"domain": [0, 10]}}, "either"),
        ({"intervals": {"domain": [0, 10], "edges": [[0, 5]], "every": [5]}}, "either"),
        ({"intervals": {"domain": [0, 10], "edges": []}}, "at least one level"),
        ({"intervals": {"domain": [0, 10], "every": []}}, "at least one level"),
        ({"intervals": {"domain": [10, 0], "every": [5]}}, "ascending"),
        ({"intervals": {"domain": [0, 10], "edges": [[1, 5]]}}, "begin with 0"),
        ({"intervals": {"domain": [0, 10], "edges": [[0, 11]]}}, "begin with 0"),
        ({"intervals": {"domain": [0, 10], "edges": [[0, 6, 5]]}}, "ascend"),
        ({"intervals": {"domain": [0, 10], "edges": [[0, 5], [0, 6]]}}, "coarser level"),
        ({"intervals": {"domain": [0, 10], "edges": [[0, 5], [0, 5]]}}, "coarser level"),
        ({"intervals": {"domain": [0, 10], "every": [2, 3]}}, "multiple"),
        ({"intervals": {"domain": [0, 10], "every": [2, 2]}}, "multiple"),
        ({"intervals": {"domain": [0, 10], "every": [0]}}, "at least 1"),
        ({"date": []}, "at least 1"),
        ({"date": ["year", "month"]}, "from fine to coarse"),
        ({"date": ["decade"]}, "'day'"),
        ({"prefix": [2, 3]}, "from fine to coarse"),
        ({"prefix": [2, 0]}, "from fine to coarse"),
        ({"suffix": [2]}, "Unable to extract tag"),
        (7, "Unable to extract tag"),
    ],
)
def test_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        PARSE(wrong)


def test_levels_that_do_not_exist():
    with pytest.raises(HierarchyError, match="no level 'week'; choose one of day, month"):
        PARSE(DATES).position("week")
    with pytest.raises(HierarchyError, match="'month' is finer than 'year'"):
        PARSE(DATES).between("year", "month")
