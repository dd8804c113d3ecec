"""Which groups may be seen: a threshold that a group of one unit passes with a probability of at most delta.

That a group exists tells that somebody is in it. With keys that are not known beforehand a group is shown only if its
noisy number of units reaches the threshold (Korolova et al. 2009; Desfontaines et al. 2022, "Differentially private
partition selection", section on thresholds).

OpenDP has this mechanism (`make_laplace_threshold`), but up to 0.16 its map states the delta of noise *above* the
threshold while it shows groups *at* the threshold: measured, and told apart by a test here. So the threshold is taken
from the distribution's tail, and the noise alone from OpenDP.
"""

import math

from privacy_platform.anonymization.dp.mechanisms import Mechanism, tail

__all__ = ["probability_of_showing", "threshold"]


def probability_of_showing(mechanism: Mechanism, scale: float, least: int, groups: int) -> float:
    """How likely a unit alone in each of its `groups` is seen in any of them, shown at `least` units and more.

    At most the sum over its groups, by the union bound: what the unit adds to delta.
    """
    return min(1.0, groups * tail(mechanism, scale, least - 1))


def threshold(mechanism: Mechanism, scale: float, delta: float, groups: int) -> int:
    """The smallest noisy number of units at which a group may be shown.

    Args:
        mechanism: of the noise on the number of units.
        scale: of that noise.
        delta: the largest probability of showing a group that one unit alone is in.
        groups: how many groups a unit can be in.
    """
    low, high = 1, 2
    while probability_of_showing(mechanism, scale, high, groups) > delta:
        low, high = high, high * 2
    while high - low > 1:
        middle = math.floor((low + high) / 2)
        enough = probability_of_showing(mechanism, scale, middle, groups) <= delta
        low, high = (low, middle) if enough else (middle, high)
    return high
