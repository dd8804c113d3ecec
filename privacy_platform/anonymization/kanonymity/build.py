"""Ladders from hierarchies: what the values that occur become at each level that may be published, at what loss."""

import numpy as np
import numpy.typing as npt
import polars as pl

from privacy_platform.anonymization.hierarchies import ANY, Hierarchy
from privacy_platform.anonymization.kanonymity.ladders import Ladder

__all__ = ["fixed_ladder", "ladder"]


def ladder(name: str, hierarchy: Hierarchy, values: pl.Series, *, finest: str, coarsest: str = ANY) -> Ladder:
    """The levels of one quasi-identifier from `finest` to `coarsest`.

    Null is a group of its own without loss below `*`; what the hierarchy does not know is `*` at every level, with
    the whole loss.

    Args:
        name: The published column.
        hierarchy: Its hierarchy.
        values: The base values, in the order of their codes: labels of the level `finest`, as
            `hierarchy.generalize(column, finest)` gives them. They need not be distinct.
        finest: The finest level that may be published.
        coarsest: The coarsest.

    Raises:
        HierarchyError: A level does not exist, or `coarsest` is finer than `finest`.
    """
    levels = hierarchy.between(finest, coarsest)
    rungs = [_rung(hierarchy, values, finest, level) for level in levels]
    codes, labels, losses = zip(*rungs, strict=True)
    return Ladder(name, levels, codes, labels, losses)


def fixed_ladder(name: str, values: pl.Series) -> Ladder:
    """One level without loss: a column that a fixed technique makes and that no search changes.

    Args:
        name: The published column.
        values: The published values, in the order of their codes; distinct.
    """
    codes, labels = _coded(values.cast(pl.String))
    return Ladder(name, ("value",), (codes,), (labels,), (np.zeros(len(labels)),))


def _rung(
    hierarchy: Hierarchy, values: pl.Series, finest: str, level: str
) -> tuple[npt.NDArray[np.int32], tuple[str | None, ...], npt.NDArray[np.float64]]:
    """Codes of the base values, labels and losses of the groups, at one level."""
    texts = values.to_frame("v").select(hierarchy.coarsen(pl.col("v"), finest, level)).to_series()
    codes, labels = _coded(texts)
    leaves, total = hierarchy.leaves(values, finest, level)
    losses = np.zeros(len(labels))
    if total > 1:
        losses[codes] = np.nan_to_num((leaves.to_numpy() - 1) / (total - 1)).clip(0, 1)
    for code, label in enumerate(labels):
        losses[code] = {None: 0.0, ANY: 1.0}.get(label, losses[code])
    return codes, labels, losses


def _coded(texts: pl.Series) -> tuple[npt.NDArray[np.int32], tuple[str | None, ...]]:
    """Codes in the order of the texts, null last."""
    labels = texts.unique().sort(nulls_last=True)
    codes = texts.replace_strict(labels, pl.Series(range(len(labels)), dtype=pl.Int32), return_dtype=pl.Int32)
    return codes.to_numpy().astype(np.int32), tuple(labels.to_list())
