"""The plan of a release: sensitivities, shares, the loss as a whole, and the mechanism that errs less."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_platform.anonymization.dp.accounting import epsilon_of
from privacy_platform.anonymization.dp.mechanisms import Mechanism
from privacy_platform.anonymization.dp.plan import PlanError, Query, make_plan


def queries(count: int, most: int = 3) -> list[Query]:
    return [Query(f"q{n}", f"m{n}", (f"q{n}",), most, 1.0 + n) for n in range(count)]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 30), st.floats(0.05, 10), st.sampled_from([0.0, 1e-9, 1e-6]))
def test_the_loss_is_never_above_what_is_declared(count: int, groups: int, epsilon: float, delta: float) -> None:
    plan = make_plan(queries(count), epsilon=epsilon, delta=delta, groups=groups, keys="q0" if delta else None)
    assert plan.loss.epsilon <= epsilon * (1 + 1e-9)
    assert plan.loss.delta <= delta * (1 + 1e-9)
    assert (plan.threshold is not None) == bool(delta)
    spent = sum(planned.rho for planned in plan.queries.values())
    if plan.mechanism is Mechanism.GAUSSIAN:
        assert epsilon_of(spent, delta / 2) <= epsilon * (1 + 1e-9)
    else:
        assert math.fsum(q.epsilon or 0 for q in plan.queries.values()) <= epsilon * (1 + 1e-9)


def test_sensitivities_are_those_of_the_bounds() -> None:
    plan = make_plan(
        [
            *queries(1, most=5),
            Query("once", "m", ("once",), 1, 1.0, groups=1),
            Query("some", "m", ("some",), 5, 1.0, total=20),
        ],
        epsilon=1,
        delta=1e-6,
        groups=9,
        keys=None,
    )
    assert (plan.queries["q0"].l1, plan.queries["q0"].l2) == (45, 15.0)
    assert (plan.queries["once"].l1, plan.queries["once"].l2) == (1, 1.0)
    # Twenty rows in all are at worst in four groups of five.
    assert (plan.queries["some"].l1, plan.queries["some"].l2) == (20, 10.0)


def test_one_query_in_one_group_gets_laplace_noise_and_many_in_many_gaussian() -> None:
    few = make_plan(queries(1), epsilon=1, delta=1e-6, groups=1, keys=None)
    many = make_plan(queries(6), epsilon=1, delta=1e-6, groups=20, keys=None)
    assert (few.mechanism, many.mechanism) == (Mechanism.LAPLACE, Mechanism.GAUSSIAN)
    # Without a delta there is no Gaussian noise; and it would have been more.
    pure = make_plan(queries(6), epsilon=1, delta=0, groups=20, keys=None)
    assert pure.mechanism is Mechanism.LAPLACE
    assert pure.loss.delta == 0
    assert many.queries["q0"].error_95 < pure.queries["q0"].error_95


def test_a_larger_share_has_less_noise_and_fixed_point_errs_in_the_measures_unit() -> None:
    plan = make_plan(
        [*queries(2), Query("sum", "m", ("sum",), 3 * 2**20, 1.0, step=50 / 2**20)],
        epsilon=1,
        delta=0,
        groups=2,
        keys=None,
    )
    assert plan.queries["q1"].scale == pytest.approx(plan.queries["q0"].scale / 2)
    assert plan.queries["sum"].error_95 == pytest.approx(2 * 3 * 50 * 4 * math.log(20), rel=1e-6)
    assert plan.queries["q0"].error_95 == math.ceil(2 * 3 * 4 * math.log(20))
    document = plan.summary()
    assert document["mechanism"] == "discrete laplace"
    assert document["threshold"] is None


def test_found_keys_need_a_delta() -> None:
    with pytest.raises(PlanError, match="delta above zero"):
        make_plan(queries(1), epsilon=1, delta=0, groups=1, keys="q0")
