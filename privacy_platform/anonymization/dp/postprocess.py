"""From noisy whole numbers to figures and the error each is promised; costs no privacy, since only noise goes in.

Every function returns the figure and `error_95`: in 95 of 100 groups the figure is no further from what it would be
without noise (over the same bounded and clamped contributions). Where the noise leaves nothing to say, both are NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy_platform.anonymization.dp.mechanisms import Floats, Integers, Mechanism, quantile_95
from privacy_platform.anonymization.dp.plan import PlannedQuery

__all__ = ["TOLD", "Estimate", "Range", "mean", "quantile", "ratio", "reconciled", "total", "variance"]


# How many times its own error a noisy count must be for something to be divided by it. At one time, the small groups
# that pass would be those whose noise happens to be large, and the promise would hold in two of three of them only.
TOLD = 3.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of each group and what it is promised to be within, in 95 of 100 groups."""

    value: Floats
    error: Floats


@dataclass(frozen=True, slots=True)
class Range:
    """What values are clamped to."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The middle, from which means are reckoned: that halves what one row can change."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2


def total(noisy: Integers, planned: PlannedQuery, *, low: float | None = 0.0, high: float | None = None) -> Estimate:
    """A count or sum; `low` and `high` are what it cannot be below or above whatever the data."""
    value = np.clip(noisy * planned.query.step, low, high)
    return Estimate(value, np.full(len(value), planned.error_95))


def mean(
    mechanism: Mechanism, sums: Integers, counts: Integers, of_sum: PlannedQuery, of_count: PlannedQuery, clamp: Range
) -> Estimate:
    """Sum of distances from the middle by the count; off by (noise of sum - distance x noise of count) / count."""
    told = counts > TOLD * of_count.error_95
    n = np.where(told, counts, 1).astype(np.float64)
    distance = np.clip(sums * of_sum.query.step / n, -clamp.half, clamp.half)
    error = quantile_95(mechanism, [np.full(len(n), of_sum.unit_scale), distance * of_count.unit_scale]) / n
    return _told(told, clamp.middle + distance, np.minimum(error, 2 * clamp.half))


def variance(
    mechanism: Mechanism,
    sums: Integers,
    squares: Integers,
    counts: Integers,
    of_sum: PlannedQuery,
    of_squares: PlannedQuery,
    of_count: PlannedQuery,
    clamp: Range,
) -> Estimate:
    """Population variance from sums of distances and of (squared distance - half its largest); error to first order."""
    told = counts > TOLD * of_count.error_95
    n = np.where(told, counts, 1).astype(np.float64)
    distance = np.clip(sums * of_sum.query.step / n, -clamp.half, clamp.half)
    square = np.clip(squares * of_squares.query.step / n, -(clamp.half**2) / 2, clamp.half**2 / 2)
    value = np.clip(square + clamp.half**2 / 2 - distance**2, 0.0, clamp.half**2)
    factors = [
        np.full(len(n), of_squares.unit_scale),
        2 * distance * of_sum.unit_scale,
        (2 * distance**2 - square) * of_count.unit_scale,
    ]
    return _told(told, value, np.minimum(quantile_95(mechanism, factors) / n, clamp.half**2))


def ratio(
    mechanism: Mechanism, numerator: Estimate, denominator: Estimate, above: PlannedQuery, below: PlannedQuery
) -> Estimate:
    """One total by another."""
    told = np.abs(denominator.value) > TOLD * denominator.error
    n = np.where(told, denominator.value, 1.0)
    value = numerator.value / n
    error = quantile_95(mechanism, [np.full(len(n), above.unit_scale), value * below.unit_scale]) / np.abs(n)
    return _told(told, value, error)


def quantile(mechanism: Mechanism, bins: Integers, planned: PlannedQuery, edges: Floats, q: float) -> Estimate:
    """The q-quantile from noisy counts of rows between `edges`, straight lines within a bin.

    The error is the way to the end of the bins in which it lies with a probability of 95 % at least: it holds what is
    unknown of where in their bin the rows are, and so more groups keep it than 95 of 100.

    Args:
        mechanism: of the noise.
        bins: groups by bins.
        planned: the query.
        edges: of the bins, one more than these, rising.
        q: between 0 and 1.
    """
    count = bins.shape[1]
    running = np.concatenate([np.zeros((len(bins), 1)), np.cumsum(bins, axis=1, dtype=np.float64)], axis=1)
    every = running[:, -1].copy()
    deviation = planned.scale * (np.sqrt(2) if mechanism is Mechanism.LAPLACE else 1.0)
    told = every > TOLD * 1.96 * deviation * np.sqrt(count)
    rising = np.maximum.accumulate(np.clip(running, 0, np.maximum(every, 0)[:, None]), axis=1)
    value, error = np.full(len(bins), np.nan), np.full(len(bins), np.nan)
    for row in np.flatnonzero(told):
        rank = q * every[row]
        value[row] = np.interp(rank, rising[row], edges)
        below = np.clip(np.searchsorted(rising[row], rank), 1, count)
        # The noise of a running count less q times that of the whole, of `below` bins and the others.
        reach = 1.96 * deviation * np.sqrt(below * (1 - q) ** 2 + (count - below) * q**2)
        first = edges[max(0, np.searchsorted(rising[row], rank - reach, side="left") - 1)]
        last = edges[min(count, np.searchsorted(rising[row], rank + reach, side="right"))]
        error[row] = max(value[row] - first, last - value[row])
    return Estimate(value, error)


def reconciled(
    mechanism: Mechanism,
    whole: Estimate,
    parts: Sequence[Estimate],
    of_whole: PlannedQuery,
    of_parts: Sequence[PlannedQuery],
) -> tuple[Estimate, list[Estimate]]:
    """The total and its parts, moved so that they add up: each in proportion to the variance of its noise.

    That is least squares (the best linear unbiased estimate; Hay et al. 2010, for two levels). Parts stay whole where
    they are counts, none falls below zero, and the total is their sum.
    """
    variances = [q.unit_scale**2 for q in (of_whole, *of_parts)]
    every = sum(variances)
    off = whole.value - np.sum([part.value for part in parts], axis=0)
    counts = all(q.query.step == 1 for q in of_parts)
    moved = [part.value + off * v / every for part, v in zip(parts, variances[1:], strict=True)]
    moved = [np.maximum(np.round(value) if counts else value, 0.0) for value in moved]
    ones = np.ones(len(whole.value))
    scales = [q.unit_scale for q in (of_whole, *of_parts)]

    def error(own: int) -> Floats:
        # Of the total or a part after the move, as a sum of all the noises.
        signs = [1.0 if i == 0 else -1.0 for i in range(len(scales))]
        share = variances[own] / every * (-1.0 if own == 0 else 1.0)
        factors = [(1.0 if i == own else 0.0) + share * signs[i] for i in range(len(scales))]
        found = quantile_95(mechanism, [f * s * ones for f, s in zip(factors, scales, strict=True)])
        return np.ceil(found) if counts else found

    adjusted = [Estimate(value, error(i + 1)) for i, value in enumerate(moved)]
    return Estimate(np.sum(moved, axis=0), error(0)), adjusted


def _told(told: np.ndarray, value: Floats, error: Floats) -> Estimate:
    return Estimate(np.where(told, value, np.nan), np.where(told, error, np.nan))
