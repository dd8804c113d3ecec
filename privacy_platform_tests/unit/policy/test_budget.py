"""Privacy budgets in policy files: whose they are, and when they renew."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from privacy_platform.policy.accounts import account_of, accounts, paying_dataset
from privacy_platform.policy.budget import PrivacyBudget, UnitBudget
from privacy_platform.policy.load import PACKAGED, InvalidPolicy, load_policies, read_policy
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.privacy import PrivacyUnit

NOW = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("renews", "since", "until"),
    [
        ("month", datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        ("year", datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        ("never", None, None),
    ],
)
def test_a_budget_is_in_force_from_one_renewal_to_the_next(
    renews: str, since: datetime | None, until: datetime | None
) -> None:
    budget = UnitBudget.model_validate({"epsilon": 1, "renews": renews})
    assert (budget.since(NOW), budget.until(NOW)) == (since, until)
    if until:
        assert budget.since(until) == until


def test_a_month_in_the_middle_of_the_year_ends_in_it() -> None:
    assert UnitBudget(epsilon=1, renews="month").until(datetime(2026, 6, 30, 5, tzinfo=UTC)) == datetime(
        2026, 7, 1, tzinfo=UTC
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"user": {"epsilon": 0}},
        {"user": {"epsilon": 1000}},
        {"user": {"epsilon": 1, "delta": 0.01}},
        {"user": {"epsilon": 1, "renews": "weekly"}},
        {"user_month": {"epsilon": 1}},
        {"user": {"delta": 1e-6}},
    ],
)
def test_a_budget_that_promises_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PrivacyBudget.model_validate(wrong)


def test_events_are_paid_for_by_their_users() -> None:
    datasets = load_policies().datasets
    assert paying_dataset("events", datasets) == paying_dataset("users", datasets) == "users"
    for unit in PrivacyUnit:
        ours = account_of("events", unit, datasets)
        assert ours == account_of("users", unit, datasets)
        assert ours in accounts(datasets)


def test_without_a_budget_of_the_unit_there_is_no_account() -> None:
    users = load_policies().datasets["users"]
    only_days = users.model_copy(update={"privacy_budget": PrivacyBudget(user_day=UnitBudget(epsilon=1))})
    assert account_of("users", PrivacyUnit.USER, {"users": only_days}) is None
    assert [account.unit for account in accounts({"users": only_days})] == [PrivacyUnit.USER_DAY]
    none = users.model_copy(update={"privacy_budget": None})
    assert accounts({"users": none}) == ()
    assert account_of("users", PrivacyUnit.USER_DAY, {"users": none}) is None


def test_a_dataset_of_other_peoples_records_has_no_budget_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.yaml"
    text = (PACKAGED / "events.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("\nfields:", "\nprivacy_budget: {user: {epsilon: 1}}\nfields:", 1), encoding="utf-8")
    invalid = read_policy(path)
    assert isinstance(invalid, InvalidPolicy)
    assert "declare their budget there" in invalid.message
    assert "users" in invalid.message
    assert isinstance(read_policy(PACKAGED / "events.yaml"), DatasetPolicy)
