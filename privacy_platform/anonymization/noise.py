"""Noise for single values: local differential privacy by the mechanisms of private aggregates (`dp.mechanisms`)."""

import numpy as np
import polars as pl

from privacy_platform.anonymization.dp.mechanisms import Mechanism, laplace_scale, noisy

__all__ = ["discrete_laplace"]


def discrete_laplace(numbers: pl.Series, span: int, epsilon: float) -> pl.Series:
    """The numbers, each with noise of its own; null stays null.

    For any two numbers that differ by at most `span` the probabilities of any outcome differ by at most the factor
    exp(`epsilon`): Dwork et al. 2006, and with every record for itself Kasiviswanathan et al. 2008.

    Args:
        numbers: Int64.
        span: The largest difference there can be, at least 1.
        epsilon: The privacy loss, above 0.
    """
    known = numbers.drop_nulls().to_numpy().astype(np.int64)
    drawn = noisy(known, Mechanism.LAPLACE, laplace_scale(span, epsilon))
    return numbers.clone().scatter(numbers.is_not_null().arg_true(), pl.Series(drawn, dtype=pl.Int64))
