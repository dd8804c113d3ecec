"""The value path: what the values of a column look like, whatever its name.

Contract: :func:`value_evidence` looks at a sample, each distinct value once, and says what share is of each kind. No
value leaves this module.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from privacy_platform.detection import ids
from privacy_platform.detection.formats import kinds_of
from privacy_platform.detection.text import normal

__all__ = ["ValueEvidence", "is_missing", "value_evidence"]

_MISSING = frozenset(
    [
        "",
        "nan",
        "null",
        "none",
        "n/a",
        "na",
        "-",
        "--",
        "?",
        "nil",
        "\\n",
        "#n/a",
        "nat",
        ".",
        "<na>",
        "n.a.",
        "unknown",
    ]
)


def is_missing(value: str) -> bool:
    """Whether a text stands for no value."""
    return len(value) <= 9 and normal(value) in _MISSING


@dataclass(frozen=True, slots=True)
class ValueEvidence:
    """What a sample of values looks like.

    Attributes:
        size: Values looked at, missing ones left out.
        distinct: Distinct ones among them.
        shares: Share of the values that are of a kind, by kind.
        numbers: Least, median and greatest, where most values are numbers.
        years: The same of the years, where most are dates.
        words: Mean number of words.
        countries: Regions of the valid phone numbers.
    """

    size: int = 0
    distinct: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    numbers: tuple[float, float, float] | None = None
    years: tuple[float, float, float] | None = None
    words: float = 0.0
    countries: frozenset[str] = frozenset()

    def share(self, kind: str) -> float:
        """The share of a kind, 0 if none was seen."""
        return self.shares.get(kind, 0.0)


def value_evidence(values: Sequence[str]) -> ValueEvidence:
    """What a sample of values looks like; missing values are left out."""
    counted = Counter(value.strip() for value in values if not is_missing(value.strip()))
    size = sum(counted.values())
    if not size:
        return ValueEvidence()
    of = {value: kinds_of(value) for value in counted}
    shares: Counter[str] = Counter({"national_id_one": size} if ids.of_one_country(list(counted)) else {})
    for value, times in counted.items():
        shares.update(dict.fromkeys(of[value].names, times))
    return ValueEvidence(
        size=size,
        distinct=len(counted),
        shares={kind: times / size for kind, times in shares.items()},
        numbers=_spread([(_number(v), t) for v, t in counted.items() if "number" in of[v].names], size),
        years=_spread([(float(y), t) for v, t in counted.items() if (y := of[v].year) is not None], size),
        words=sum(len(value.split()) * times for value, times in counted.items()) / size,
        countries=frozenset(kinds.region for kinds in of.values() if kinds.region),
    )


def _spread(counted: Sequence[tuple[float, int]], size: int) -> tuple[float, float, float] | None:
    """Least, median and greatest of what more than half of the values have."""
    numbers = sorted(number for number, times in counted for _ in range(times))
    return (numbers[0], numbers[len(numbers) // 2], numbers[-1]) if len(numbers) * 2 > size else None


def _number(value: str) -> float:
    text = value.replace(",", "") if value.count(",") > 1 or "." in value else value.replace(",", ".")
    return float(text)
