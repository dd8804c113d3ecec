"""How far a column's distribution in the published table is from that of the original, and what its values have lost.

A published label stands for the original values beneath it, in proportion to how frequent they are in the original:
that is all that a reader with the original's statistics could say. So a column that was only generalized keeps distance
0, and what suppression and local recoding distort shows.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.recoding import Recoding
from privacy_platform.anonymization.kanonymity.tuples import Tuples

__all__ = ["ColumnUtility", "column_utility", "recoding_utility"]


@dataclass(frozen=True, slots=True)
class ColumnUtility:
    """What is left of a column.

    Attributes:
        total_variation: half the sum of |published share - original share| over the values, 0 to 1.
        earth_mover: for values with an order, the sum of the cumulated differences over the number of values less one
            (Li et al. 2007), 0 to 1; None without an order.
        loss: mean normalized certainty penalty, 0 to 1 (Xu et al. 2006).
    """

    total_variation: float
    earth_mover: float | None
    loss: float


def column_utility(
    original: npt.NDArray[np.int64],
    published: npt.NDArray[np.int64],
    beneath: Mapping[int, npt.NDArray[np.int64]],
    *,
    ordered: bool,
) -> ColumnUtility:
    """Compare a column's original values with its published labels, as two tables show them.

    The loss is that of the published records and counts the values that occur in the original, not a hierarchy's.

    Args:
        original: shape (values,), records of each original value, in the values' order; all ≥ 1.
        published: shape (labels,), records of each published label.
        beneath: label → the values it stands for. A label that is missing stands for nothing of the original.
        ordered: whether the values have an order.
    """
    spread = np.zeros(len(original))
    lost = 0.0
    for label, records in enumerate(published.tolist()):
        values = beneath.get(label)
        if values is None or not len(values):
            lost += records
            continue
        spread[values] += records * original[values] / original[values].sum()
        lost += records * (len(values) - 1) / max(1, len(original) - 1)
    records = int(published.sum())
    return _compared(original, spread, records, lost / max(1, records), ordered)


def recoding_utility(
    tuples: Tuples, ladders: Sequence[Ladder], recoding: Recoding, *, ordered: Collection[str] = ()
) -> dict[str, ColumnUtility]:
    """Quasi-identifier → what a recoding leaves of it, with the loss that the recoding itself states.

    Args:
        tuples: the original.
        ladders: of its columns, in order.
        recoding: what the tuples are published as, global or local.
        ordered: quasi-identifiers whose base values have an order, which is that of their codes.
    """
    weights = np.where(recoding.suppressed, 0, tuples.counts)
    found = {}
    for i, ladder in enumerate(ladders):
        base = tuples.codes[:, i]
        original = np.bincount(base, tuples.counts, len(ladder.codes[0]))
        levels = np.broadcast_to(recoding.levels[..., i], base.shape)
        spread = np.zeros(len(original))
        for level in np.unique(levels):
            codes = ladder.codes[level]
            here = levels == level
            published = np.bincount(codes[base[here]], weights[here], int(codes.max()) + 1)
            mass = np.bincount(codes, original, len(published))
            spread += original * (published / np.maximum(mass, 1))[codes]
        found[ladder.name] = _compared(original, spread, int(weights.sum()), recoding.losses[i], ladder.name in ordered)
    return found


def _compared(
    original: npt.NDArray[np.int64] | npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
    records: int,
    loss: float,
    ordered: bool,
) -> ColumnUtility:
    """The original distribution against `records` published records, of which `spread` are on its values."""
    if not records or not len(original):
        return ColumnUtility(0.0, 0.0 if ordered else None, loss)
    difference = spread / records - original / original.sum()
    # Labels that stand for nothing are mass that is missing everywhere.
    foreign = max(0.0, 1 - float(spread.sum()) / records)
    variation = float(np.abs(difference).sum() + foreign) / 2
    steps = float(np.abs(np.cumsum(difference)).sum()) / max(1, len(original) - 1)
    return ColumnUtility(variation, steps if ordered else None, loss)
