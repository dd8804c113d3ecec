"""Noise: what OpenDP says a scale costs, how far off it is, and the threshold that hides a group of one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opendp import prelude as dp

from privacy_platform.anonymization.dp.keys import probability_of_showing, threshold
from privacy_platform.anonymization.dp.mechanisms import (
    Mechanism,
    gaussian_scale,
    laplace_scale,
    noisy,
    quantile_95,
    tail,
)

DRAWS = 40_000
# So far from its probability that a share of DRAWS is not, in a billion runs.
OFF = math.sqrt(math.log(2e9) / (2 * DRAWS))


def draws(mechanism: Mechanism, scale: float, at: int = 0) -> np.ndarray:
    return noisy(np.full(DRAWS, at, dtype=np.int64), mechanism, scale)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 10**9), st.floats(0.01, 20))
def test_the_scale_costs_no_more_than_asked_and_hardly_less(distance: int, loss: float) -> None:
    dp.enable_features("contrib")
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    laplace = dp.m.make_laplace(domain, dp.l1_distance(T="i64"), scale=laplace_scale(distance, loss))
    assert laplace.check(distance, loss)
    assert not laplace.check(distance, loss * 0.999)
    gaussian = dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale=gaussian_scale(float(distance), loss))
    assert gaussian.check(float(distance), loss)
    assert not gaussian.check(float(distance), loss * 0.999)


@pytest.mark.parametrize("mechanism", Mechanism)
def test_noise_is_centred_on_the_number_and_reaches_as_far_as_said(mechanism: Mechanism) -> None:
    found = draws(mechanism, 20.0, at=1000) - 1000
    assert abs((found > 0).mean() - (found < 0).mean()) < 2 * OFF
    for least in (1, 10, 30, 60):
        assert (found >= least).mean() <= tail(mechanism, 20.0, least) + OFF
    if mechanism is Mechanism.LAPLACE:
        assert abs((found >= 10).mean() - tail(mechanism, 20.0, 10)) < OFF
    assert noisy(np.array([], dtype=np.int64), mechanism, 20.0).size == 0


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("factors", [[1.0], [1.0, 1.0], [1.0, -0.4], [0.7, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
def test_ninety_five_of_a_hundred_sums_of_noise_are_within_the_quantile(
    mechanism: Mechanism, factors: list[float]
) -> None:
    scale = 50.0
    total = sum((factor * draws(mechanism, scale) for factor in factors), np.zeros(DRAWS))
    bound = quantile_95(mechanism, [np.array([factor * scale]) for factor in factors])[0]
    assert (np.abs(total) <= bound).mean() == pytest.approx(0.95, abs=0.005 + OFF)


def test_of_many_noises_the_quantile_is_further_off_than_near() -> None:
    total = sum((draws(Mechanism.LAPLACE, 50.0) for _ in range(6)), np.zeros(DRAWS))
    bound = quantile_95(Mechanism.LAPLACE, [np.array([50.0])] * 6)[0]
    assert 0.95 - OFF < (np.abs(total) <= bound).mean() < 0.975


def test_no_noise_has_no_error() -> None:
    for mechanism in Mechanism:
        assert quantile_95(mechanism, [np.array([0.0]), np.array([0.0])]) == [0.0]


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize(("delta", "groups"), [(0.02, 1), (0.02, 4)])
def test_who_is_alone_in_their_groups_is_seen_with_at_most_delta(
    mechanism: Mechanism, delta: float, groups: int
) -> None:
    least = threshold(mechanism, 8.0, delta, groups)
    seen = (
        (noisy(np.ones((DRAWS * groups), dtype=np.int64), mechanism, 8.0) >= least).reshape(DRAWS, groups).any(axis=1)
    )
    assert seen.mean() <= delta + OFF
    # And no higher than it need be.
    assert probability_of_showing(mechanism, 8.0, least - 1, groups) > delta


def test_a_threshold_one_lower_would_show_too_many() -> None:
    """Of opendp 0.16: its map of a threshold promises the delta that only the next one keeps."""
    dp.enable_features("contrib")
    space = (
        dp.map_domain(dp.atom_domain(T="i64"), dp.atom_domain(T="i64")),
        dp.l01inf_distance(dp.absolute_distance(T="i64")),
    )
    theirs = dp.m.make_laplace_threshold(*space, scale=2.0, threshold=6)
    _, promised = theirs.map((1, 1, 1))
    shown = len(theirs(dict.fromkeys(range(DRAWS), 1))) / DRAWS
    assert shown == pytest.approx(probability_of_showing(Mechanism.LAPLACE, 2.0, 6, 1), abs=OFF)
    ours = threshold(Mechanism.LAPLACE, 2.0, promised, 1)
    assert probability_of_showing(Mechanism.LAPLACE, 2.0, ours, 1) <= promised
    if shown > promised + OFF:  # else they have mended it, and ours may be theirs
        assert ours == 7
