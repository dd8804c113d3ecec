"""Work on a column's distinct values instead of all of them, where that is less work: first names, cities."""

from collections.abc import Callable

import polars as pl

__all__ = ["distinct_if_few", "for_each_distinct"]

_REPEATS_THAT_PAY = 4
_SAMPLE = 4096
# As many more different ones as chance may put among the first.
_MARGIN = 1.02


def distinct_if_few(texts: pl.Series) -> pl.Series:
    """The distinct texts where the first of them repeat, else all: what holds for none of them holds for no row."""
    head = texts.head(_SAMPLE)
    return texts.unique() if head.n_unique() * _REPEATS_THAT_PAY <= len(head) else texts


def for_each_distinct(column: pl.Expr, kernel: Callable[[pl.Series], pl.Series]) -> pl.Expr:
    """Expression: what a kernel makes of each text, computed once for texts that repeat.

    Args:
        column: Texts.
        kernel: Texts to texts of the same length; what becomes of one must depend on it alone.
    """

    def batch(values: pl.Series) -> pl.Series:
        if not _may_repeat(values):
            return kernel(values)
        distinct = values.unique()
        if len(distinct) * _REPEATS_THAT_PAY > len(values):
            return kernel(values)
        return values.replace_strict(distinct, kernel(distinct), return_dtype=pl.String)

    return column.map_batches(batch, return_dtype=pl.String, is_elementwise=True)


def _may_repeat(texts: pl.Series) -> bool:
    """False where the first texts are so varied that to look for all distinct ones would hardly pay.

    Were each of d texts there just as often as pays, r times, and all N well mixed, the first n would be of
    d (1 - (1 - n / N)^r) different ones.
    """
    if len(texts) <= _SAMPLE:
        return True
    distinct = len(texts) / _REPEATS_THAT_PAY
    expected = distinct * (1 - (1 - _SAMPLE / len(texts)) ** _REPEATS_THAT_PAY)
    return texts.head(_SAMPLE).n_unique() <= _MARGIN * expected
