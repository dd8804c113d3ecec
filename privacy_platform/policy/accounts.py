"""Whose privacy budget an aggregate spends."""

from collections.abc import Mapping
from dataclasses import dataclass

from privacy_platform.policy.budget import UnitBudget
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.privacy import PrivacyUnit

__all__ = ["Account", "account_of", "accounts", "paying_dataset"]


@dataclass(frozen=True, slots=True)
class Account:
    """The budget of a dataset's data subjects at one privacy unit."""

    dataset: str
    unit: PrivacyUnit
    budget: UnitBudget


def paying_dataset(dataset: str, datasets: Mapping[str, DatasetPolicy]) -> str:
    """The dataset of the data subjects of `dataset`: the one it refers to, or itself.

    Users and their events are about the same people, whose losses add up whichever table was read.
    """
    referred = datasets[dataset].references
    return paying_dataset(referred.dataset, datasets) if referred else dataset


def account_of(dataset: str, unit: PrivacyUnit, datasets: Mapping[str, DatasetPolicy]) -> Account | None:
    """The account that a release made from `dataset` charges; None when no policy declares one for this unit."""
    paying = paying_dataset(dataset, datasets)
    declared = datasets[paying].privacy_budget
    budget = declared.of(unit) if declared else None
    return Account(paying, unit, budget) if budget else None


def accounts(datasets: Mapping[str, DatasetPolicy]) -> tuple[Account, ...]:
    """Every account that a policy declares, by dataset and unit."""
    return tuple(
        Account(name, unit, budget)
        for name, policy in sorted(datasets.items())
        if policy.privacy_budget
        for unit in PrivacyUnit
        if (budget := policy.privacy_budget.of(unit))
    )
