"""The outcome of a search: what every tuple becomes, and what it costs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy_platform.errors import PrivacyPlatformError

__all__ = ["Recoding", "UnreachableError"]


@dataclass(frozen=True, slots=True, eq=False)
class Recoding:
    """What the tuples are published as.

    Attributes:
        levels: int16; shape (quasi-identifiers,) for a global recoding, the same levels for all; or (tuples,
            quasi-identifiers) for a local one.
        suppressed: bool of shape (tuples,): records of these tuples are left out.
        loss: mean NCP over all records and quasi-identifiers, 0 to 1; a suppressed cell counts 1.
        losses: the same for each quasi-identifier.
        suppressed_records: how many records are left out.
        classes: equivalence classes published.
        checked: nodes of the lattice (or clusters) that were evaluated: what the search took.
    """

    levels: npt.NDArray[np.int16]
    suppressed: npt.NDArray[np.bool_]
    loss: float
    losses: tuple[float, ...]
    suppressed_records: int
    classes: int
    checked: int


class UnreachableError(PrivacyPlatformError):
    """No allowed generalization satisfies the requirements within the suppression limit.

    Attributes:
        share: the smallest share of records that would have to be suppressed. With models other than k and distinct l
            the smallest that was found; it is enough, but less may be.
        without: quasi-identifier → that share if the column were not published and all others at their coarsest levels.
    """

    def __init__(self, message: str, share: float, without: Mapping[str, float]) -> None:
        self.share = share
        self.without = dict(without)
        super().__init__(message)
