"""Noise for single values: local differential privacy by OpenDP's discrete Laplace mechanism.

All of it is whole numbers, because noise made of floating-point numbers gives itself away in its lowest bits (Mironov
2012). OpenDP draws it exactly, by the method of Canonne, Kamath and Steinke (2020), from the operating system's
randomness; nothing is drawn here.
"""

import math
from functools import lru_cache

import polars as pl
from opendp import prelude as dp

__all__ = ["discrete_laplace", "mechanism"]


@lru_cache(maxsize=64)
def mechanism(span: int, epsilon: float) -> dp.Measurement:
    """The mechanism that adds as little noise as hides a difference of `span` with a privacy loss of `epsilon`."""
    dp.enable_features("contrib")  # proved, but OpenDP has not finished its own review of it
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    scale = span / epsilon
    while not (found := dp.m.make_laplace(*space, scale=scale)).check(span, epsilon):  # the quotient was rounded down
        scale = math.nextafter(scale, math.inf)
    return found


def discrete_laplace(numbers: pl.Series, span: int, epsilon: float) -> pl.Series:
    """The numbers, each with noise of its own; null stays null.

    For any two numbers that differ by at most `span` the probabilities of any outcome differ by at most the factor
    exp(`epsilon`): Dwork et al. 2006, and with every record for itself Kasiviswanathan et al. 2008.

    Args:
        numbers: Int64.
        span: The largest difference there can be, at least 1.
        epsilon: The privacy loss, above 0.
    """
    known = numbers.is_not_null().arg_true()
    noisy = pl.Series(mechanism(span, epsilon)(numbers.drop_nulls().to_list()), dtype=pl.Int64)
    return numbers.clone().scatter(known, noisy)
