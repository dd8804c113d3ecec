"""What is said of a private aggregate before any data is read."""

import math
from typing import Any

import pytest

from privacy_platform.policy.explanation import GROUP_SIZES, document, in_words, promised_errors
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.private import plan_of

PRIVACY: dict[str, Any] = {
    "unit": "user_day",
    "epsilon": 1.0,
    "delta": 1e-8,
    "groups_per_unit": 4,
    "rows_per_group": 5,
    "measures": {"mean_price": {"clamp": [0, 100]}, "revenue": {"clamp": [0, 100]}},
}


def policy(**privacy: Any) -> AggregatePolicy:
    return AggregatePolicy.model_validate(
        {
            "aggregate": "sales",
            "description": "Sales.",
            "source": "anonymized_events",
            "unit": "user_token",
            "mode": "differentially_private",
            "privacy": PRIVACY | privacy,
            "dimensions": {
                "day": {"column": "timestamp", "truncate": "day", "required": True, "comment": "c"},
                "kind": {"column": "event_type", "comment": "c"},
            },
            "measures": {
                "sales": {"kind": "count", "comment": "c"},
                "buyers": {"kind": "count_distinct", "column": "user_token", "comment": "c"},
                "mean_price": {"kind": "mean", "column": "price", "comment": "c"},
                "revenue": {"kind": "sum", "column": "price", "comment": "c"},
                "a_buyer": {"kind": "ratio", "numerator": "sales", "denominator": "buyers", "comment": "c"},
            },
        }
    )


def test_the_promise_of_a_total_is_that_of_its_noise_whatever_the_group() -> None:
    sales = policy()
    plan = plan_of(sales)
    promised = promised_errors(sales, plan)
    assert list(promised) == ["sales", "buyers", "mean_price", "revenue", "a_buyer"]
    by_measure = {planned.query.measure: planned for planned in plan.queries.values()}
    for name in ("sales", "buyers", "revenue"):
        assert set(promised[name].values()) == {by_measure[name].error_95}


def test_the_promise_of_a_mean_gets_better_with_the_group() -> None:
    sales = policy(epsilon=4.0)
    small, middling, large = promised_errors(sales, plan_of(sales))["mean_price"].values()
    assert middling is not None
    assert large is not None
    assert large == pytest.approx(middling / 10)
    assert small is None or small > middling


def test_a_smaller_epsilon_promises_less() -> None:
    loose, strict = (promised_errors(p, plan_of(p)) for p in (policy(epsilon=2.0), policy(epsilon=0.5)))
    for name in ("sales", "buyers", "revenue"):
        for size in GROUP_SIZES:
            assert (strict[name][size] or 0) > 3 * (loose[name][size] or math.inf)


def test_the_words_name_unit_factor_bounds_and_threshold() -> None:
    sales = policy()
    plan = plan_of(sales)
    said = " ".join(in_words(sales, plan))
    assert plan.threshold is not None
    for words in (
        "everything of one user on one day (UTC)",
        "= 2.72, except with a probability of 1e-08",
        "at most 4 groups on a day, with at most 5 rows in each",
        f"at least {plan.threshold}",
        plan.mechanism,
    ):
        assert words in said


def test_the_words_name_a_bound_on_all_rows_only_where_there_is_one() -> None:
    for bound, words in ((None, "5 rows in each. What"), (12, "5 rows in each and 12 in all. What")):
        sales = policy(rows_per_unit=bound)
        assert words in " ".join(in_words(sales, plan_of(sales)))


def test_the_words_of_known_keys_and_whole_users() -> None:
    keys = {"day": {"first": "2026-01-01", "last": "2026-01-31"}, "kind": ["view", "sale"]}
    sales = policy(unit="user", groups_per_unit=1, delta=0.0, keys=keys)
    said = " ".join(in_words(sales, plan_of(sales)))
    assert "everything of one user:" in said
    assert "at most 1 group, with at most 5 rows" in said
    assert "groups without anybody are shown too" in said
    assert "except with" not in said


def test_the_document_holds_what_a_release_is_made_by() -> None:
    sales = policy()
    said = document(sales, plan_of(sales))
    assert {key: said[key] for key in ("unit", "groups_per_unit", "rows_per_group")} == {
        "unit": "user_day",
        "groups_per_unit": 4,
        "rows_per_group": 5,
    }
    assert said["epsilon"] == pytest.approx(1.0)
    assert said["delta"] == pytest.approx(1e-8)
    promised = said["promised_error_95"]
    assert isinstance(promised, dict)
    assert set(promised["sales"]) == {"100", "1000", "10000"}
