"""What an aggregate policy says about differential privacy: the unit, its bounds, the loss, and how keys are known.

Dwork and Roth 2014; the vocabulary (privacy unit, contribution bound) is that of NIST SP 800-226.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from privacy_platform.anonymization.hierarchies import HierarchyError, load
from privacy_platform.policy.base import Name, PolicyModel

__all__ = [
    "DateKeys",
    "HierarchyKeys",
    "Keys",
    "KnownKeys",
    "LandedKeys",
    "ListedKeys",
    "MeasurePrivacy",
    "Mode",
    "PrivacyPolicy",
    "PrivacyUnit",
    "problems_of_keys",
]

MAX_KEYS = 1_000_000


class Mode(StrEnum):
    """What protects the people of an aggregate."""

    EXACT = "exact_with_minimum"
    PRIVATE = "differentially_private"


class PrivacyUnit(StrEnum):
    """What is hidden: everything a user contributed, or everything of one UTC day."""

    USER = "user"
    USER_DAY = "user_day"


class ListedKeys(PolicyModel):
    """The values of a dimension, one by one."""

    values: tuple[str, ...] = Field(min_length=1)

    def keys(self) -> tuple[str, ...]:
        """The values."""
        return self.values


class HierarchyKeys(PolicyModel):
    """The labels of a packaged or own hierarchy at one level, such as the regions of `city`."""

    hierarchy: Name
    level: Name

    @model_validator(mode="after")
    def _level_exists(self) -> Self:
        try:
            known = load(self.hierarchy)
        except HierarchyError as error:
            raise ValueError(str(error)) from None
        if self.level not in known.levels or not known.labels(self.level):
            raise ValueError(f"`{self.level}` is not a level of the hierarchy `{self.hierarchy}`")
        return self

    def keys(self) -> tuple[str, ...]:
        """The labels in alphabetical order."""
        return tuple(sorted(load(self.hierarchy).labels(self.level) or ()))


class DateKeys(PolicyModel):
    """The first and the last day of a truncated dimension, whatever the data hold."""

    first: date
    last: date

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("`last` is before `first`")
        return self


class LandedKeys(PolicyModel):
    """The days of the source's partitions: that a day was landed is not hidden, only what is in it."""

    landed: Literal[True]


def _expand_keys(value: Any) -> Any:
    if value == "landed":
        return {"landed": True}
    return {"values": value} if isinstance(value, (list, tuple)) else value


Keys = ListedKeys | HierarchyKeys | DateKeys | LandedKeys
KnownKeys = Annotated[Keys, BeforeValidator(_expand_keys)]


class MeasurePrivacy(PolicyModel):
    """What a measure's values are clamped to, and its part of epsilon in relation to the others'.

    `rows` bounds a measure more narrowly than `rows_per_group`: with `once_per`, so many values count.
    """

    clamp: tuple[float, float] | None = None
    share: float = Field(default=1.0, gt=0, le=1000)
    bins: int = Field(default=32, ge=2, le=1024)
    rows: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _clamp_rises(self) -> Self:
        if self.clamp and not (-1e12 <= self.clamp[0] < self.clamp[1] <= 1e12):
            raise ValueError("`clamp` is [low, high], low below high")
        return self


class PrivacyPolicy(PolicyModel):
    """The parameters of a differentially private aggregate.

    `keys` names the dimensions whose values are known beforehand. The values of the others are found in the data: a
    combination of them is shown, with all known ones, if enough units have it. `keys_per_unit` bounds in how many such
    combinations a unit is (by default `groups_per_unit`). With no others, every combination is shown.
    """

    unit: PrivacyUnit
    epsilon: float = Field(gt=0, le=20)
    delta: float = Field(default=0.0, ge=0, le=1e-3)
    groups_per_unit: int = Field(ge=1, le=10_000)
    rows_per_group: int = Field(ge=1, le=100_000)
    rows_per_unit: int | None = Field(default=None, ge=1, le=1_000_000)
    keys: Literal["private"] | dict[Name, KnownKeys] = "private"
    keys_per_unit: int | None = Field(default=None, ge=1, le=10_000)
    keys_share: float = Field(default=1.0, gt=0, le=1000)
    measures: dict[Name, MeasurePrivacy] = Field(default_factory=dict)
    consistent: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)

    def of(self, measure: str) -> MeasurePrivacy:
        """What is said of a measure."""
        return self.measures.get(measure, MeasurePrivacy())

    def rows(self, measure: str) -> int:
        """How many rows of a unit a measure counts in a group."""
        return min(self.rows_per_group, self.of(measure).rows or self.rows_per_group)

    @property
    def known(self) -> Mapping[str, Keys]:
        """The dimensions whose keys are known."""
        return {} if isinstance(self.keys, str) else self.keys


def problems_of_keys(privacy: PrivacyPolicy, dimensions: Mapping[str, bool]) -> Iterator[str]:
    """What does not fit about the keys: each begins with the setting's name.

    Args:
        privacy: the parameters.
        dimensions: dimension → whether it is a date.
    """
    known = privacy.known
    for name, keys in known.items():
        if name not in dimensions:
            yield f"keys.{name}: is not a dimension of this aggregate; correct its name"
        elif dimensions[name] != isinstance(keys, (DateKeys, LandedKeys)):
            yield f"keys.{name}: " + (
                "a date's keys are `landed`, or `{first: …, last: …}`"
                if dimensions[name]
                else "keys are a list of values, or `{hierarchy: …, level: …}`"
            )
    if privacy.keys_per_unit and not 0 < len(known) < len(dimensions):
        yield "keys_per_unit: is for tables with known keys and others; remove it, groups_per_unit is the bound"
    if set(known) != set(dimensions) and privacy.delta == 0:
        yield "delta: keys found in the data need a delta above zero, or list the keys of every dimension"
