"""What a release must satisfy as a whole: k-anonymity, l-diversity and t-closeness, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["LDiversity", "Requirements", "TCloseness"]


@dataclass(frozen=True, slots=True)
class LDiversity:
    """Each equivalence class shows enough values of a sensitive attribute (Machanavajjhala et al. 2007).

    Attributes:
        l: `distinct`: at least that many values; `entropy`: entropy of at least log(l); `recursive`: with the counts
            r1 ≥ r2 ≥ … of a class, r1 < c · (r_l + r_(l+1) + …).
        kind: which of the three.
        c: the constant of the recursive kind; None for the others.
    """

    l: float  # noqa: E741 - the name of the literature
    kind: Literal["distinct", "entropy", "recursive"] = "distinct"
    c: float | None = None


@dataclass(frozen=True, slots=True)
class TCloseness:
    """Each class's distribution of a sensitive attribute is near that of the published table (Li et al. 2007).

    Attributes:
        t: the largest earth mover's distance allowed, 0 to 1.
        distance: `equal` (total variation) or `ordered` (values in their order, one step apart).
    """

    t: float
    distance: Literal["equal", "ordered"] = "equal"


@dataclass(frozen=True, slots=True)
class Requirements:
    """All that is demanded of a release. Suppressed records are no equivalence class and are not counted in any.

    Attributes:
        k: every equivalence class has at least that many records (Samarati & Sweeney 1998).
        sensitive: sensitive attribute → what its values must satisfy in every class.
        suppression_limit: the largest share of records that may be left out, 0 to 1.
    """

    k: int
    sensitive: Mapping[str, tuple[LDiversity | TCloseness, ...]] = field(default_factory=dict)
    suppression_limit: float = 0.0
