"""Noise on whole numbers: OpenDP's discrete Laplace and discrete Gaussian, and how far off they are.

All of it is whole numbers, because noise made of floating-point numbers gives itself away in its lowest bits (Mironov
2012). OpenDP draws it exactly, by the methods of Canonne, Kamath and Steinke (2020), from the operating system's
randomness; nothing is drawn here. What a scale costs is OpenDP's own privacy map, never a formula of ours.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from opendp import prelude as dp

__all__ = ["Mechanism", "gaussian_scale", "laplace_scale", "noisy", "quantile_95", "tail"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_EXACT = 4


class Mechanism(StrEnum):
    """A distribution of noise; the value is its name in the ledger and in metadata."""

    LAPLACE = "discrete laplace"
    GAUSSIAN = "discrete gaussian"


@lru_cache(maxsize=256)
def _measurement(mechanism: Mechanism, scale: float) -> dp.Measurement:
    dp.enable_features("contrib")  # proved, but OpenDP has not finished its own review of it
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    if mechanism is Mechanism.LAPLACE:
        return dp.m.make_laplace(domain, dp.l1_distance(T="i64"), scale=scale)
    return dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale=scale)


def laplace_scale(distance: int, epsilon: float) -> float:
    """The smallest scale that hides an L1 distance of `distance` with a privacy loss of at most `epsilon`."""
    scale = distance / epsilon
    while not _measurement(Mechanism.LAPLACE, scale).check(distance, epsilon):  # the quotient was rounded down
        scale = math.nextafter(scale, math.inf)
    return scale


def gaussian_scale(distance: float, rho: float) -> float:
    """The standard deviation that hides an L2 distance of `distance` with a loss of at most `rho` (zCDP)."""
    scale = distance / math.sqrt(2 * rho)
    while not _measurement(Mechanism.GAUSSIAN, scale).check(distance, rho):
        scale = scale * (1 + 2**-50)  # OpenDP's map rounds up at every step, so one last bit is not enough
    return scale


def noisy(numbers: Integers, mechanism: Mechanism, scale: float) -> Integers:
    """The numbers, each with noise of its own; sums that leave the 64 bits stay at their end (OpenDP saturates)."""
    if not numbers.size:
        return numbers
    return np.asarray(_measurement(mechanism, scale)(numbers.tolist()), dtype=np.int64)


def tail(mechanism: Mechanism, scale: float, least: int) -> float:
    """An upper bound, for the Laplace the very value, of the probability that noise is at least `least` (above 0).

    Discrete Laplace: a**least / (1 + a) with a = exp(-1 / scale). Discrete Gaussian: no more than the continuous one's
    beyond `least - 1` (Canonne, Kamath and Steinke 2020, proposition 25).
    """
    if mechanism is Mechanism.LAPLACE:
        return math.exp(-least / scale) / (1 + math.exp(-1 / scale))
    return 0.5 * math.erfc((least - 1) / (scale * math.sqrt(2)))


def quantile_95(mechanism: Mechanism, scales: Sequence[Floats]) -> Floats:
    """The distance from zero that a sum of independent noises exceeds with a probability of 5 %.

    Of continuous noise of the same scales, which for scales of ten and more differs by less than a hundredth. A sum of
    Laplace noises of scales b has the tail Σ cᵢ exp(-t / bᵢ), cᵢ = Π bᵢ² / (bᵢ² - bⱼ²), from the partial fractions of
    its characteristic function Π 1 / (1 + bᵢ² s²). Of more than four Laplace noises, where that loses its digits, it is
    that of one with the same variance: up to 8 % too far.

    Args:
        mechanism: of the noises.
        scales: of each noise, times the factor it is multiplied by; arrays of one length, or broadcastable.
    """
    terms = np.stack(np.broadcast_arrays(*(np.abs(np.asarray(s, dtype=np.float64)) for s in scales)))
    if mechanism is Mechanism.GAUSSIAN:
        return np.asarray(1.959963984540054 * np.sqrt((terms**2).sum(axis=0)))
    if len(terms) > _EXACT:
        return np.asarray(math.log(20) * np.sqrt((terms**2).sum(axis=0)))
    largest = terms.max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    # Equal scales make the fractions infinite: a thousandth apart they give the same quantile to a hundredth.
    ranks = np.argsort(np.argsort(terms, axis=0), axis=0)
    b = terms / unit * (1 + 0.001 * ranks)
    squares = b**2
    coefficients = np.ones_like(b)
    for i in range(len(b)):
        for j in range(len(b)):
            if i != j:
                gap = squares[i] - squares[j]
                coefficients[i] *= np.where(squares[i] == 0, 0.0, squares[i] / np.where(gap == 0, 1.0, gap))
    low, high = np.zeros_like(largest), np.full_like(largest, 8.0 * len(b))
    for _ in range(50):
        middle = (low + high) / 2
        beyond = (coefficients * np.exp(-middle / np.where(b > 0, b, 1.0))).sum(axis=0)
        low, high = np.where(beyond > 0.05, middle, low), np.where(beyond > 0.05, high, middle)
    return np.where(largest > 0, high * unit, 0.0)
