"""From a score to a probability that holds: of the columns given 0.9, nine in ten are right.

Platt's method (1999): a logistic curve through the scores of generated tables, `python -m benchmarks.detection --fit`.
The fit gave slopes of 1.3 to 1.7; generated tables are easier than real ones, so a smaller one is taken.
`docs/detection.md` has the measured reliability.
"""

import math

__all__ = ["calibrated"]

_SLOPE, _SHIFT = 1.25, 0.0


def calibrated(probability: float) -> float:
    """The probability of being personal, from the logistic of a score."""
    bounded = min(1 - 1e-9, max(1e-9, probability))
    logit = math.log(bounded / (1 - bounded))
    return 1 / (1 + math.exp(-(_SLOPE * logit + _SHIFT)))
