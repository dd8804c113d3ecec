"""Composition: true bounds, no looser than the literature's, and never below what a mechanism really loses."""

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opendp import prelude as dp

from privacy_platform.anonymization.dp.accounting import (
    AccountingError,
    Loss,
    composed,
    epsilon_of,
    rho_of,
    together,
)

RHO = st.floats(1e-5, 50)
DELTA = st.floats(1e-12, 0.01)
EPSILON = st.floats(1e-3, 10)
dp.enable_features("contrib")


def gaussian_delta(rho: float, epsilon: float) -> float:
    """What a Gaussian mechanism of this rho really fails by: Balle and Wang 2018, theorem 8."""
    below, distance = NormalDist().cdf, math.sqrt(2 * rho)
    return below(distance / 2 - epsilon / distance) - math.exp(epsilon) * below(-distance / 2 - epsilon / distance)


@given(rho=RHO, delta=DELTA)
def test_no_gaussian_loses_more_than_its_epsilon(rho: float, delta: float) -> None:
    epsilon = epsilon_of(rho, delta)
    assert epsilon <= rho + 2 * math.sqrt(rho * -math.log(delta))  # Bun and Steinke 2016, proposition 1.3
    if epsilon < 500:
        assert gaussian_delta(rho, epsilon) <= delta


@pytest.mark.parametrize(("scale", "delta"), [(1.0, 1e-6), (10.0, 1e-6), (40.0, 1e-9), (3.0, 1e-3)])
def test_it_is_the_epsilon_that_opendp_states(scale: float, delta: float) -> None:
    gaussian = dp.m.make_gaussian(dp.atom_domain(T="i64"), dp.absolute_distance(T="i64"), scale=scale)
    stated = dp.c.make_zCDP_to_approxDP(gaussian).map(1).epsilon(delta)
    assert epsilon_of(gaussian.map(1), delta) == pytest.approx(stated, rel=1e-4)


@given(epsilon=EPSILON, delta=DELTA)
def test_rho_and_epsilon_belong_to_each_other(epsilon: float, delta: float) -> None:
    rho = rho_of(epsilon, delta)
    assert epsilon_of(rho, delta) <= epsilon
    assert epsilon_of(rho * (1 + 1e-9), delta) > epsilon


def test_nothing_costs_nothing() -> None:
    assert epsilon_of(0.0, 0.0) == 0
    assert rho_of(0.0, 1e-6) == rho_of(1.0, 0.0) == 0
    assert epsilon_of(0.1, 0.0) == math.inf
    assert composed([], 0.0).epsilon == 0


def test_few_pure_releases_add_up_and_many_are_concentrated() -> None:
    few, many = composed([Loss.pure(0.5)] * 3, 1e-6), composed([Loss.pure(0.1)] * 100, 1e-6)
    assert (few.epsilon, few.composition) == (1.5, "basic")
    assert many.composition == "zcdp"
    assert many.epsilon == epsilon_of(100 * 0.005, 1e-6) < 10


def test_a_sum_of_decimals_is_what_a_person_reckons() -> None:
    assert composed([Loss.pure(0.1)] * 10, 0.0).epsilon == 1.0


def test_gaussians_need_their_delta_once_when_concentrated() -> None:
    releases = [Loss.concentrated(0.01, 1e-7)] * 5
    assert composed(releases, 1e-7).composition == "zcdp"
    assert composed(releases, 1e-7).epsilon == epsilon_of(0.05, 1e-7)


def test_thresholds_spend_delta_under_both() -> None:
    release = together([Loss.pure(0.1), Loss.failing(1e-8)])
    assert (release.epsilon, release.delta, release.rho, release.rho_delta) == (0.1, 1e-8, pytest.approx(0.005), 1e-8)
    assert composed([release] * 10, 1e-8).epsilon == math.inf  # the thresholds alone fail more often
    assert composed([release] * 1, 1e-8).epsilon == 0.1
    assert composed([release] * 80, 1e-6).epsilon == pytest.approx(epsilon_of(0.4, 2e-7))


def test_without_rho_only_adding_up_is_left() -> None:
    losses = [Loss(0.1, 1e-9), *[Loss.pure(0.1)] * 99]
    assert together(losses).rho is None
    assert composed(losses, 1e-6).composition == "basic"
    assert composed(losses, 1e-6).epsilon == pytest.approx(10)


@given(st.lists(st.builds(Loss.pure, EPSILON), max_size=6), st.builds(Loss.pure, EPSILON), DELTA)
def test_one_release_more_never_costs_less(losses: list[Loss], more: Loss, delta: float) -> None:
    assert composed([*losses, more], delta).epsilon >= composed(losses, delta).epsilon


@pytest.mark.parametrize(
    "arguments", [(-0.1,), (math.inf,), (math.nan,), (1, 1.0), (1, -1e-9), (1, 0.0, -1.0), (1, 0.0, 0.5, 1.0)]
)
def test_what_cannot_be_lost_is_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(AccountingError):
        Loss(*arguments)
