"""Contribution bounding on random rows: each unit for itself, never beyond its bounds, and no row left out in vain."""

import random
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from privacy_platform.engine.bounding import ALL_ROWS, COMPLETE, KEYS, PEOPLE, ROWS, bounded, bounded_rows
from privacy_platform.policy.model import AggregatePolicy

DAY = {"column": "at", "truncate": "day", "required": True, "comment": "c"}
PAGE = {"column": "page", "comment": "c"}
PAGES = {"page": ["home", "cart", "help"]}
CLAMPS = {"mean_price": {"clamp": [1, 8]}, "revenue": {"clamp": [0, 12]}, "length": {"clamp": [0, 40000]}}
CASES = [
    {"unit": "user_day", "groups_per_unit": 2, "rows_per_group": 2, "keys": {"day": "landed", **PAGES}},
    {"unit": "user_day", "groups_per_unit": 9, "rows_per_group": 1, "keys": {"day": "landed"}, "keys_per_unit": 1},
    {"unit": "user", "groups_per_unit": 4, "rows_per_group": 3, "keys": PAGES},
    {"unit": "user", "groups_per_unit": 5, "rows_per_group": 3, "rows_per_unit": 7, "keys": PAGES},
    {"unit": "user", "groups_per_unit": 3, "rows_per_group": 2},
]


def policy(privacy: dict[str, Any]) -> AggregatePolicy:
    return AggregatePolicy.model_validate(
        {
            "aggregate": "bounds",
            "description": "Visits.",
            "mode": "differentially_private",
            "source": "anonymized_visits",
            "unit": "token",
            "join": {"table": "anonymized_people", "by": "token", "columns": ["region"]},
            "derive": {"length": {"span": "at", "by": "session_hash"}},
            "dimensions": {"day": DAY, "page": PAGE, "region": {"column": "region", "comment": "c"}},
            "measures": {
                "visits": {"kind": "count", "comment": "c"},
                "buyers": {"kind": "count_distinct", "column": "token", "where": {"page": "cart"}, "comment": "c"},
                "mean_price": {"kind": "mean", "column": "price", "comment": "c"},
                "revenue": {"kind": "sum", "column": "price", "times": "items", "comment": "c"},
                "length": {"kind": "mean", "column": "length", "once_per": "session_hash", "comment": "c"},
            },
            "privacy": {"epsilon": 1, "delta": 1e-6, "measures": CLAMPS} | privacy,
        }
    )


def random_visits(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Visits of few people, one of whom made half of them, with values missing and rows alike; and their regions."""
    draw = random.Random(seed)
    sessions = ["s1", "s2", "s3", None]
    rows = [
        {
            "token": draw.choice(["hog", draw.choice("abcdef")]),
            "at": None
            if draw.random() < 0.05
            else datetime(2024, 3, draw.randint(1, 3), draw.randint(0, 23), tzinfo=UTC),
            "page": draw.choice(["home", "cart", "elsewhere", None]),
            "session_hash": draw.choice(sessions),
            "price": None if draw.random() < 0.1 else draw.randint(0, 20) / 2,
            "items": draw.randint(0, 3),
        }
        for _ in range(400)
    ]
    regions = [{"token": token, "region": draw.choice(["West", "South"])} for token in ["hog", *"abcde"]]
    return pl.DataFrame(rows, schema_overrides={"at": pl.Datetime("us", "UTC")}), pl.DataFrame(regions)


def answers(cut: AggregatePolicy, rows: pl.DataFrame, regions: pl.DataFrame) -> pl.DataFrame:
    return bounded(cut, bounded_rows(cut, rows, regions)).sort(list(cut.dimensions), nulls_last=True)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("privacy", CASES)
def test_every_unit_is_bounded_and_for_itself(privacy: dict[str, Any], seed: int) -> None:
    cut = policy(privacy)
    rows, regions = random_visits(seed)
    everybody = answers(cut, rows, regions)
    assert everybody[ALL_ROWS].sum() == rows.height
    assert 0 < everybody[ROWS].sum() < rows.height
    names = list(cut.dimensions)
    alone = []
    for _, own in rows.group_by("token"):
        mine = answers(cut, own, regions)
        alone.append(mine)
        days = mine["day"].drop_nulls().unique()
        units = [mine] if privacy["unit"] == "user" else [mine.filter(pl.col("day") == day) for day in days]
        for unit in units:
            _within_bounds(privacy, unit.filter(pl.col(COMPLETE)))
        assert mine.filter(~pl.col(COMPLETE))[ROWS].sum() == 0
    sums = [name for name in everybody.columns if name not in (*names, COMPLETE)]
    together = pl.concat(alone).group_by(names).agg(pl.col(COMPLETE).first(), pl.col(sums).sum())
    assert_frame_equal(together.sort(names, nulls_last=True), everybody)
    shuffled = answers(cut, rows.sample(fraction=1.0, shuffle=True, seed=seed), regions)
    assert_frame_equal(shuffled, everybody)


def _within_bounds(privacy: dict[str, Any], unit: pl.DataFrame) -> None:
    """A unit's own answers: it counts once in as many groups as it may, with as many rows as it may."""
    shown = unit.filter(pl.col(PEOPLE) > 0)
    assert unit[PEOPLE].is_in([0, 1]).all()
    keys = {"day", "page", "region"} - set(privacy.get("keys", {}))
    if "keys_per_unit" in privacy:
        assert shown.select(sorted(keys)).n_unique() <= privacy["keys_per_unit"] if shown.height else True
    else:
        assert shown.height == min(unit.height, privacy["groups_per_unit"])
    most = privacy["rows_per_group"]
    assert (shown[ROWS] <= most).all()
    assert (shown["_q_visits"] == shown[ROWS]).all()
    assert (shown["_q_buyers"] <= 1).all()
    assert (shown["_q_length__count"] <= most).all()
    assert unit[ROWS].sum() <= privacy.get("rows_per_unit", unit.height * most)
    if "rows_per_unit" not in privacy:  # no row is left out in vain
        assert shown[ROWS].to_list() == shown[ALL_ROWS].clip(upper_bound=most).to_list()
    if KEYS in unit.columns and unit[KEYS].sum():
        assert unit[KEYS].sum() == shown.select(sorted(keys)).n_unique()


def test_a_span_can_be_a_dimension() -> None:
    rows, regions = random_visits(4)
    changed = {"dimensions": {"day": DAY, "length": {"column": "length", "comment": "c"}}}
    cut = policy({"unit": "user_day", "groups_per_unit": 9, "rows_per_group": 99, "keys": {"day": "landed"}})
    spans = AggregatePolicy.model_validate(
        cut.model_dump(mode="json")
        | changed
        | {
            "measures": {"visits": {"kind": "count", "comment": "c"}},
            "privacy": cut.model_dump(mode="json")["privacy"] | {"measures": {}},
        }
    )
    found = answers(spans, rows, regions)
    assert found["length"].n_unique() > 3
    assert found[ALL_ROWS].sum() == rows.height
