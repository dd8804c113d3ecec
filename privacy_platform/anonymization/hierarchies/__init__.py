"""Generalization hierarchies: what a value becomes at each coarser level.

`tables` are CSV files, found by name; `intervals`, `dates`, `prefixes` and `values` are written in the policy itself.
`base` says what they all promise.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, StringConstraints, Tag

from privacy_platform.anonymization.hierarchies.base import ANY, Hierarchy, HierarchyError
from privacy_platform.anonymization.hierarchies.dates import Dates
from privacy_platform.anonymization.hierarchies.intervals import Intervals
from privacy_platform.anonymization.hierarchies.prefixes import Prefixes
from privacy_platform.anonymization.hierarchies.tables import Table, load, read
from privacy_platform.anonymization.hierarchies.values import Values

__all__ = [
    "ANY",
    "Dates",
    "Hierarchy",
    "HierarchyError",
    "HierarchyReference",
    "Intervals",
    "Prefixes",
    "Table",
    "Values",
    "load",
    "read",
]


def _expand(value: Any) -> Any:
    """`{date: [month, year]}` is the short form of `{kind: date, periods: [month, year]}`, and so on."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, content),) = value.items()
        if kind == "intervals" and isinstance(content, dict):
            return {"kind": kind, **content}
        if kind in ("date", "prefix"):
            return {"kind": kind, "periods" if kind == "date" else "lengths": content}
    return value


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


HierarchyReference = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=63), Tag("name")]
    | Annotated[Intervals, Tag("intervals")]
    | Annotated[Dates, Tag("date")]
    | Annotated[Prefixes, Tag("prefix")]
    | Annotated[Values, Tag("value")],
    Discriminator(_kind),
    BeforeValidator(_expand),
]
"""A hierarchy as a policy file says it: the name of a CSV file, `{intervals: …}`, `{date: […]}`, `{prefix: […]}` or
`{kind: value}`."""
