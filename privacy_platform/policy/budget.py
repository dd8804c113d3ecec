"""The privacy budget of a dataset: how much its data subjects may lose to differentially private releases.

A dataset has an account for each unit that is protected. `user` is everything a data subject ever contributed;
`user_day` is what they contributed within one UTC day. The two do not add up to each other: a loss of epsilon per user
and day bounds what a person who was there on n days loses by n times epsilon, and by nothing less.
"""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from privacy_platform.policy.base import PolicyModel
from privacy_platform.policy.privacy import PrivacyUnit

__all__ = ["PrivacyBudget", "UnitBudget"]


class UnitBudget(PolicyModel):
    """What a unit may lose until the budget renews.

    A budget that renews promises no more than this much within each calendar month or year (UTC); over n of them a
    unit may lose n times as much. Only `never` bounds the whole.
    """

    epsilon: float = Field(gt=0, le=100)
    delta: float = Field(default=0.0, ge=0, le=0.001)
    renews: Literal["month", "year", "never"] = "never"

    def since(self, now: datetime) -> datetime | None:
        """When the budget that is in force at `now` began; None for one that never renews."""
        match self.renews:
            case "month":
                return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            case "year":
                return now.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
            case _:
                return None

    def until(self, now: datetime) -> datetime | None:
        """When it renews; None for one that never does."""
        began = self.since(now)
        if began is None:
            return None
        months = began.month if self.renews == "month" else 12
        return began.replace(year=began.year + months // 12, month=months % 12 + 1)


class PrivacyBudget(PolicyModel):
    """The accounts of a dataset's data subjects; without an account nothing is released at that unit."""

    user: UnitBudget | None = None
    user_day: UnitBudget | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.user is None and self.user_day is None:
            raise ValueError("give a budget for `user`, for `user_day`, or for both")
        return self

    def of(self, unit: PrivacyUnit) -> UnitBudget | None:
        """The budget at a unit."""
        return self.user if unit is PrivacyUnit.USER else self.user_day
