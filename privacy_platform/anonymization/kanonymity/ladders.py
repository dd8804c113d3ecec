"""What one quasi-identifier's values become, level by level: a generalization hierarchy cut down to what occurs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Ladder"]


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """The levels of one quasi-identifier over the base values that occur in a table, coded 0, 1, ….

    Level 0 is the finest that may be published. Each level is a function of the one before (a tree), which makes
    every class at a coarser level a union of classes at a finer one.

    Attributes:
        name: the published column.
        levels: names of the levels, finest first.
        codes: for each level, an int32 array: base value's code → code of its group at that level. `codes[0]` may
            already merge base values.
        labels: for each level, the published label of each code; None is null.
        losses: for each level, a float64 array: the normalized certainty penalty of each code, 0 (the value itself)
            to 1 (anything). NCP of a group: (leaves under it - 1) / (leaves of the hierarchy - 1), counting the whole
            domain of the hierarchy and not only what occurs (Xu et al. 2006).
    """

    name: str
    levels: tuple[str, ...]
    codes: tuple[npt.NDArray[np.int32], ...]
    labels: tuple[tuple[str | None, ...], ...]
    losses: tuple[npt.NDArray[np.float64], ...]
