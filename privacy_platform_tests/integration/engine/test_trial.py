"""Private figures against exact ones: under other parameters, and as they stand; and who may see that."""

from typing import Any

import psycopg
import pytest

from privacy_platform.anonymization.dp.utility import MeasureUtility
from privacy_platform.engine.trial import Trial, measured, trials
from privacy_platform.governance import utility
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform_tests.integration.engine.support import (
    World,
    days,
    frame,
    people_policy,
    person,
    query,
    visit,
    visits_policy,
)

MEMBERS = people_policy("trial_people", privacy_budget={"user_day": {"epsilon": 100, "delta": 1e-3}})
CALLS = visits_policy("trial_visits", "trial_people")
VISITS = 1200


def policy(**privacy: Any) -> AggregatePolicy:
    return AggregatePolicy.model_validate(
        {
            "aggregate": "trial_metrics",
            "description": "Visits.",
            "mode": "differentially_private",
            "source": "anonymized_trial_visits",
            "unit": "token",
            "dimensions": {
                "day": {"column": "at", "truncate": "day", "required": True, "comment": "c"},
                "page": {"column": "page", "comment": "c"},
            },
            "measures": {
                "visits": {"kind": "count", "comment": "c"},
                "people": {"kind": "count_distinct", "column": "token", "comment": "c"},
                "mean_price": {"kind": "mean", "column": "price", "comment": "c"},
            },
            "privacy": {
                "unit": "user_day",
                "epsilon": 1.0,
                "delta": 1e-6,
                "groups_per_unit": 4,
                "rows_per_group": 50,
                "keys": {"day": "landed", "page": ["home", "cart", "help"]},
                "measures": {"mean_price": {"clamp": [0, 10]}},
            }
            | privacy,
        }
    )


POLICIES = PolicySet({"trial_people": MEMBERS, "trial_visits": CALLS}, {"trial_metrics": policy()})


@pytest.fixture(scope="module")
def ready(world: World) -> World:
    world.land(MEMBERS, world.put("people.jsonl", [person(n) for n in range(97)]))
    world.anonymize(MEMBERS)
    pages = ("home", "cart", "help", None)
    visits = [visit(n, 97, page=pages[n % 7 % 4]) for n in range(VISITS)]
    world.land(CALLS, world.put("visits.jsonl", visits), selected=days(3))
    world.anonymize(CALLS, MEMBERS, selected=days(3))
    return world


def tried(world: World, **parameters: list[Any]) -> list[Trial]:
    wanted: dict[str, Any] = {"epsilons": [20.0], "groups": [4], "rows": [5]} | parameters
    with connect(Role.PIPELINE) as connection:
        return list(trials(world.spark, connection, policy(), POLICIES, **wanted))


def of(found: Trial | tuple[MeasureUtility, ...], measure: str) -> MeasureUtility:
    """The row of the size that all groups of this data have: from 10 to 99 people."""
    rows = found.utility if isinstance(found, Trial) else found
    return next(row for row in rows if (row.measure, row.people_from) == (measure, 10))


def test_more_epsilon_errs_less_and_narrow_bounds_count_less(ready: World) -> None:
    before = query("SELECT count(*) FROM governance.privacy_budget")
    strict, loose, *narrow = tried(ready, epsilons=[0.5, 20.0], groups=[4, 1])
    assert [(t.epsilon, t.groups_per_unit) for t in (strict, loose, *narrow)] == [(0.5, 4), (20, 4), (0.5, 1), (20, 1)]
    # All twelve groups are there, none is hidden, and bounds as wide as the data cut nothing.
    assert (of(loose, "visits").cells, of(loose, "visits").hidden) == (12, 0)
    assert loose.counted == 1.0
    for measure in ("visits", "people"):
        assert (of(strict, measure).promised_error or 0) > 10 * (of(loose, measure).promised_error or 1e9)
    # What the noise leaves at this epsilon is next to nothing against the hundred visits of a group …
    assert (of(loose, "visits").median_relative_error or 1) < 0.3
    # … and what the bounds cut is not covered by the promise.
    assert narrow[1].counted < 0.5
    assert (of(narrow[1], "visits").median_relative_error or 0) > 0.5
    assert of(narrow[1], "visits").within_promise == 0
    # A bound on all rows of a unit counts less too, and needs less noise.
    (in_all,) = tried(ready, in_all=[1])
    assert in_all.rows_per_unit == 1
    assert in_all.counted < 0.5
    assert (of(in_all, "visits").promised_error or 1e9) < (of(loose, "visits").promised_error or 0)
    assert query("SELECT count(*) FROM governance.privacy_budget") == before


def test_the_standing_table_is_held_against_the_exact_one_and_kept_for_compliance(ready: World) -> None:
    report = ready.aggregate(policy(), CALLS, MEMBERS)
    with connect(Role.PIPELINE) as connection:
        found = measured(ready.spark, connection, policy(), POLICIES)
        utility.record(connection, report.table.qualified, found)
    shown = frame(report.table.qualified)
    # One error reckoned by hand: the largest of the table is no smaller than the 95th percentile of it.
    rows = frame("anonymized.anonymized_trial_visits")
    exact = {
        (row["day"], row["page"]): row["n"]
        for row in rows.select(day=rows["at"].dt.date(), page=rows["page"].fill_null("unknown"))
        .group_by("day", "page")
        .len("n")
        .to_dicts()
    }
    errors = [abs(row["visits"] - exact[row["day"], row["page"]]) for row in shown.to_dicts()]
    assert len(errors) == of(found, "visits").cells == 12
    assert of(found, "visits").measured_error == max(errors)  # of twelve the 95th percentile is the largest
    promised = shown["visits_error_95"].to_list()
    within = sum(error <= bound for error, bound in zip(errors, promised, strict=True)) / 12
    assert of(found, "visits").within_promise == pytest.approx(within)
    with connect(Role.COMPLIANCE) as connection:
        kept = utility.latest(connection, report.table.qualified)
    assert [(row.measure, row.people_from, row.cells) for row in kept] == [
        (row.measure, row.people_from, row.cells) for row in found
    ]
    assert {row.run_id for row in kept} == {ready.runs[-1]}
    for role in (Role.ANALYST, Role.DASHBOARD, Role.LINKAGE):
        with connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            utility.latest(connection, report.table.qualified)
