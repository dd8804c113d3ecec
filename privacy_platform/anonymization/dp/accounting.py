"""Privacy loss: what one release costs a privacy unit, and what several cost together.

A loss is kept under two definitions at once, and both are composed by adding up:

* (epsilon, delta)-differential privacy; *basic composition*, Dwork and Roth 2014, "The Algorithmic Foundations of
  Differential Privacy", theorem 3.16.
* delta-approximate rho-zCDP (zero-concentrated); Bun and Steinke 2016, "Concentrated Differential Privacy", definition
  8.1 and lemma 8.2. Its sum is turned into (epsilon, delta) by the bound of Canonne, Kamath and Steinke 2020, "The
  Discrete Gaussian for Differential Privacy", proposition 12.

Both hold of every sequence of releases, so the smaller epsilon is the one to report. They hold of neighbouring data
sets that differ in everything one unit contributed (added or removed); what a unit is, the policy says.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from privacy_platform.errors import PrivacyPlatformError

__all__ = [
    "ROUNDING",
    "AccountingError",
    "Composition",
    "Loss",
    "Total",
    "composed",
    "epsilon_of",
    "rho_of",
    "together",
]

Composition = Literal["basic", "zcdp"]

# The orders (alpha - 1) at which the bound is evaluated, as multiples of sqrt(ln(1/delta) / rho), where the simpler
# bound of Bun and Steinke has its minimum. Every order gives a true bound. The minimum is flat: steps of 1 % miss it by
# less than a thousandth of a per cent. The ledger's check in SQL uses the same ones.
_ORDERS = tuple(math.exp(step / 100) for step in range(-300, 301))


class AccountingError(PrivacyPlatformError):
    """A loss that cannot be: negative, not finite, or a delta of one and more."""


# Numbers that people write in decimals are not exact in binary: ten times 0.1 is not refused under a budget of 1.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Loss:
    """What one release costs a unit at the most.

    Attributes:
        epsilon: with `delta`, the guarantee of (epsilon, delta)-differential privacy.
        delta: see `epsilon`.
        rho: of rho-zCDP; None when none is known.
        rho_delta: the probability with which that may fail (approximate zCDP): what a threshold on keys spends.
    """

    epsilon: float
    delta: float = 0.0
    rho: float | None = None
    rho_delta: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.epsilon < math.inf and 0 <= (self.rho or 0) < math.inf):
            raise AccountingError("epsilon and rho of a privacy loss are finite and not negative; correct them.")
        if not (0 <= self.delta < 1 and 0 <= self.rho_delta < 1):
            raise AccountingError("delta of a privacy loss is a probability below 1; correct it.")

    @classmethod
    def pure(cls, epsilon: float) -> "Loss":
        """Of an epsilon-DP mechanism, such as the discrete Laplace; rho by Bun and Steinke, proposition 1.4."""
        return cls(epsilon, 0.0, epsilon * epsilon / 2)

    @classmethod
    def concentrated(cls, rho: float, delta: float) -> "Loss":
        """Of a rho-zCDP mechanism, such as the discrete Gaussian, its epsilon stated at `delta` (above 0)."""
        return cls(epsilon_of(rho, delta), delta, rho)

    @classmethod
    def failing(cls, delta: float) -> "Loss":
        """Of a step that shows nothing of a unit, except with probability `delta`: a threshold on keys."""
        return cls(0.0, delta, 0.0, delta)


@dataclass(frozen=True, slots=True)
class Total:
    """What several releases cost together: (epsilon, delta)-DP, and which composition proves it.

    `epsilon` is infinite when neither composition reaches the delta that was asked for.
    """

    epsilon: float
    delta: float
    composition: Composition


def together(losses: Iterable[Loss]) -> Loss:
    """The loss of mechanisms that all look at the same units, under both definitions: sequential composition."""
    parts = tuple(losses)
    rhos = [part.rho for part in parts if part.rho is not None]
    return Loss(
        math.fsum(part.epsilon for part in parts),
        math.fsum(part.delta for part in parts),
        math.fsum(rhos) if len(rhos) == len(parts) else None,
        math.fsum(part.rho_delta for part in parts),
    )


def composed(losses: Iterable[Loss], delta: float) -> Total:
    """The epsilon of all the losses together at the given delta: by the composition that gives the smaller one."""
    whole = together(losses)
    found: Total | None = None
    if whole.delta <= delta * (1 + ROUNDING):
        found = Total(whole.epsilon, delta, "basic")
    if whole.rho is not None and whole.rho_delta <= delta:
        epsilon = epsilon_of(whole.rho, delta - whole.rho_delta)
        if found is None or epsilon < found.epsilon:
            found = Total(epsilon, delta, "zcdp")
    return found or Total(math.inf, delta, "basic")


def epsilon_of(rho: float, delta: float) -> float:
    """The epsilon of a rho-zCDP mechanism at `delta`; infinite at 0, unless rho is 0 too."""
    if rho == 0:
        return 0.0
    if delta <= 0:
        return math.inf
    reach = -math.log(delta)
    middle = math.sqrt(reach / rho)
    # epsilon = α ρ + (ln(1/δ) + α ln(1 - 1/α) - ln(α - 1)) / (α - 1), and the least of all α is a bound as well.
    bounds = (
        (1 + x) * rho + (reach - (1 + x) * math.log1p(1 / x) - math.log(x)) / x for x in (middle * m for m in _ORDERS)
    )
    return max(0.0, min(bounds))


@lru_cache(maxsize=256)
def rho_of(epsilon: float, delta: float) -> float:
    """The largest rho whose mechanisms are (epsilon, delta)-DP by `epsilon_of`, to twelve digits and never above."""
    if epsilon <= 0 or delta <= 0:
        return 0.0
    low, high = 0.0, 1.0
    while epsilon_of(high, delta) <= epsilon:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of(middle, delta) <= epsilon else (low, middle)
    return low
