"""The ledger of privacy budgets on a real server: composition by unit, renewal, standing releases, and concurrency."""

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import errors, sql

from privacy_platform.anonymization.dp.accounting import Loss, composed, epsilon_of, together
from privacy_platform.engine.gate import GateError, Publication, ReleaseReport, Run, conclude, releasing
from privacy_platform.governance import audit
from privacy_platform.governance.budget import (
    BudgetSpentError,
    Charge,
    Spending,
    balance,
    budget_check,
    check_before,
    entries,
    releases_left,
    spend,
    standing,
)
from privacy_platform.policy.accounts import Account
from privacy_platform.policy.budget import UnitBudget
from privacy_platform.policy.privacy import PrivacyUnit
from privacy_platform.policy.tables import WHOLE, Column, ColumnType, Table, Zone
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import STAGING, Release, indexing, open_staging
from privacy_platform.warehouse.tables import count_rows, table_columns

pytestmark = pytest.mark.usefixtures("warehouse")
MONDAY, TUESDAY = date(2026, 6, 1), date(2026, 6, 2)
FINGERPRINT = "ab" * 32


def account(
    epsilon: float = 1.0, delta: float = 0.0, *, unit: PrivacyUnit = PrivacyUnit.USER, renews: str = "never"
) -> Account:
    """An account that no other test has touched."""
    budget = UnitBudget.model_validate({"epsilon": epsilon, "delta": delta, "renews": renews})
    return Account(f"people_{secrets.token_hex(4)}", unit, budget)


def charge(epsilon: float, period: date | None = None) -> Charge:
    return Charge(period, Loss.pure(epsilon), FINGERPRINT)


def spending(
    paying: Account,
    *charges: Charge,
    target: str = "analytics.t",
    run_id: str = "run-1",
    kept: Mapping[date | None, str] | None = None,
) -> Spending:
    return Spending(
        account=paying,
        target=target,
        run_id=run_id,
        mechanism="discrete Laplace",
        charges=charges,
        stands={**(kept or {}), **{each.period: each.fingerprint for each in charges}},
        plan={"epsilon": 1},
    )


@pytest.fixture
def ledger() -> Iterator[psycopg.Connection]:
    """The pipeline in a transaction that is never committed."""
    with connect() as connection:
        yield connection
        connection.rollback()


def test_releases_about_the_same_users_add_up(ledger: psycopg.Connection) -> None:
    paying = account(1.0)
    assert spend(ledger, spending(paying, charge(0.5))).passed
    assert balance(ledger, paying).left == 0.5
    assert spend(ledger, spending(paying, charge(0.5), target="analytics.other")).passed
    outcome = spend(ledger, spending(paying, charge(0.1)))
    assert outcome.failed
    assert outcome.name == "budget_respected"
    assert outcome.figures["epsilon_spent"] == pytest.approx(1.1)
    assert "0 of it is left" in outcome.message


def test_days_compose_in_parallel_and_each_day_adds_up(ledger: psycopg.Connection) -> None:
    paying = account(2.0, unit=PrivacyUnit.USER_DAY)
    assert spend(ledger, spending(paying, charge(1.0, MONDAY), charge(1.0, TUESDAY))).passed
    assert spend(ledger, spending(paying, charge(0.5, TUESDAY))).passed
    stands = balance(ledger, paying)
    assert (stands.period, stands.spent.epsilon, stands.releases) == (TUESDAY, 1.5, 3)
    (entry, *_) = entries(ledger, limit=1)
    assert (entry.first, entry.last, entry.periods, entry.epsilon) == (MONDAY, TUESDAY, 3, 1.0)
    outcome = spend(ledger, spending(paying, charge(0.9, MONDAY), charge(0.9, TUESDAY)))
    assert outcome.failed
    assert "on 2026-06-02" in outcome.message


def test_what_was_released_of_the_whole_table_is_spent_on_every_day(ledger: psycopg.Connection) -> None:
    paying = account(2.0, unit=PrivacyUnit.USER_DAY)
    spend(ledger, spending(paying, charge(1.0)))
    assert spend(ledger, spending(paying, charge(1.0, MONDAY))).passed
    assert spend(ledger, spending(paying, charge(1.0, TUESDAY))).passed
    assert spend(ledger, spending(paying, charge(0.1, MONDAY))).failed


def test_accounts_do_not_mix(ledger: psycopg.Connection) -> None:
    users = account(1.0)
    days = Account(users.dataset, PrivacyUnit.USER_DAY, users.budget)
    assert spend(ledger, spending(users, charge(1.0))).passed
    assert spend(ledger, spending(days, charge(1.0, MONDAY))).passed
    assert spend(ledger, spending(account(1.0), charge(1.0))).passed


def test_many_small_releases_are_composed_by_zcdp(ledger: psycopg.Connection) -> None:
    paying = account(5.0, 1e-6)
    for number in range(80):
        assert spend(ledger, spending(paying, charge(0.1), run_id=f"run-{number}")).passed
    (last, *_) = entries(ledger, limit=1)
    assert last.composition == "zcdp"
    assert last.total_epsilon == pytest.approx(epsilon_of(0.4, 1e-6))
    assert last.total_epsilon < 5 < 8
    assert entries(ledger, limit=80)[-1].composition == "basic"
    more = releases_left(ledger, paying, Loss.pure(0.1))
    assert composed([Loss.pure(0.1)] * (80 + more), 1e-6).epsilon <= 5
    assert composed([Loss.pure(0.1)] * (81 + more), 1e-6).epsilon > 5


LOSSES = st.builds(
    lambda epsilon, failing, known: together([Loss.pure(epsilon) if known else Loss(epsilon), Loss.failing(failing)]),
    st.floats(0.001, 3),
    st.sampled_from([0.0, 1e-9, 1e-7]),
    st.booleans(),
)


@given(st.lists(st.tuples(st.sampled_from([None, MONDAY, TUESDAY]), LOSSES), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_the_server_reckons_as_the_accounting_does(charged: Sequence[tuple[date | None, Loss]]) -> None:
    paying = account(100, 1e-6, unit=PrivacyUnit.USER_DAY)
    with connect() as connection:
        spend(connection, spending(paying, *(Charge(period, loss, FINGERPRINT) for period, loss in charged)))
        found = budget_check(connection, paying).figures["epsilon_spent"]
        stands = balance(connection, paying)
        connection.rollback()
    worst = max(
        composed([loss for period, loss in charged if period in (None, day)], 1e-6).epsilon
        for day in (None, MONDAY, TUESDAY)
    )
    assert found == pytest.approx(worst, rel=1e-9)
    assert stands.spent.epsilon == pytest.approx(worst, rel=1e-9)


def test_delta_that_is_spent_is_refused(ledger: psycopg.Connection) -> None:
    paying = account(10.0, 1e-6)
    costly = Charge(None, together([Loss.pure(0.1), Loss.failing(9e-7)]), FINGERPRINT)
    assert spend(ledger, spending(paying, costly)).passed
    with pytest.raises(BudgetSpentError, match="more delta than there is"):
        check_before(ledger, paying, "analytics.t", [costly])


def test_over_budget_is_said_before_anything_is_computed(ledger: psycopg.Connection) -> None:
    paying = account(1.0, renews="year")
    check_before(ledger, paying, "analytics.t", [charge(1.0)])
    spend(ledger, spending(paying, charge(0.75)))
    check_before(ledger, paying, "analytics.t", [charge(0.25)])
    with pytest.raises(BudgetSpentError) as raised:
        check_before(ledger, paying, "analytics.t", [charge(0.5)])
    next_year = datetime.now(UTC).year + 1
    for said in ("analytics.t", paying.dataset, "0.25 of it is left", f"renews on {next_year}-01-01", "unit user"):
        assert said in str(raised.value)


def test_a_release_that_charges_nothing_is_never_too_dear(ledger: psycopg.Connection) -> None:
    paying = account(1.0)
    spend(ledger, spending(paying, charge(1.0)))
    lowered = Account(paying.dataset, paying.unit, UnitBudget(epsilon=0.5))
    check_before(ledger, lowered, "analytics.t", [])
    assert budget_check(ledger, lowered).failed


@pytest.mark.parametrize(("renews", "left"), [("month", 0.5), ("year", 0.5), ("never", 0.25)])
def test_a_budget_renews_with_the_calendar(renews: str, left: float) -> None:
    paying = account(1.0, renews=renews)
    began = paying.budget.since(datetime.now(UTC)) or datetime(2026, 1, 1, tzinfo=UTC)
    with connect(Role.ADMIN) as connection:
        spend(connection, spending(paying, charge(0.25), target="analytics.before"))
        spend(connection, spending(paying, charge(0.5), target="analytics.since"))
        # Only the owner of the database can do this, and only without the triggers.
        connection.execute("ALTER TABLE governance.privacy_budget DISABLE TRIGGER ALL")
        for target, at in (("before", began - timedelta(microseconds=1)), ("since", began)):
            connection.execute(
                "UPDATE governance.privacy_budget SET spent_at = %s WHERE target = %s", [at, f"analytics.{target}"]
            )
        stands, check = balance(connection, paying), budget_check(connection, paying)
        connection.rollback()
    assert stands.left == left
    assert check.figures["epsilon_spent"] == 1 - left


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE governance.privacy_budget SET epsilon = 0",
        "DELETE FROM governance.privacy_budget",
        "TRUNCATE governance.privacy_budget",
    ],
)
@pytest.mark.parametrize("role", [Role.ADMIN, Role.PIPELINE, Role.COMPLIANCE])
def test_what_was_spent_cannot_be_taken_back(role: Role, statement: str) -> None:
    with connect(role) as connection:
        if role is Role.ADMIN:
            connection.execute("SET session_replication_role = replica")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)
        connection.rollback()


def test_nobody_backdates_a_spending() -> None:
    columns = "dataset, privacy_unit, target, epsilon, delta, rho_delta, mechanism, composition, total_epsilon, "
    values = "'d', 'user', 't', 1, 0, 0, 'm', 'basic', 1, 0, 'f', 'r', '2000-01-01'"
    statement = (
        f"INSERT INTO governance.privacy_budget ({columns} total_delta, fingerprint, run_id, spent_at) "
        f"VALUES ({values}) RETURNING spent_at"
    )
    with connect() as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)
    with connect(Role.ADMIN) as connection:
        row = connection.execute(statement).fetchone()
        connection.rollback()
    assert row is not None
    assert row[0].year > 2000


@pytest.mark.parametrize("role", [Role.ANALYST, Role.DASHBOARD, Role.LINKAGE, Role.COMPLIANCE])
def test_only_runs_take_the_lock(role: Role) -> None:
    with connect(role) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute("SELECT governance.lock_account('users', 'user')")


# From here on releases are really published.

TABLE_COLUMNS = (
    Column("day", ColumnType.DATE, "Day.", nullable=False),
    Column("events", ColumnType.BIGINT, "Events."),
)


def aggregate_table() -> Table:
    return Table(
        zone=Zone.ANALYTICS,
        name=f"budgeted_{secrets.token_hex(4)}",
        comment="Of a test.",
        columns=TABLE_COLUMNS,
        key=("day",),
    )


def publish(
    table: Table,
    paying: Account | None,
    *charges: Charge,
    run_id: str,
    kept: Mapping[date | None, str] | None = None,
    ready: threading.Barrier | None = None,
) -> ReleaseReport:
    """Release a table of one row, as the engine does; wait for others between staging and publishing."""
    release = Release(table, (WHOLE,))
    spent = spending(paying, *charges, target=table.qualified, run_id=run_id, kept=kept) if paying else None
    with releasing(table) as connection:
        open_staging(connection, release)
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES ('2026-06-01', 7)").format(sql.Identifier(STAGING, release.staging))
        )
        connection.commit()
        with indexing(release, (WHOLE,)):
            pass
        if ready:
            ready.wait(60)
        return conclude(
            connection,
            release,
            Run(run_id),
            Publication(dataset=table.name, lineage=(), spending=spent),
            filled=(WHOLE,),
            checks=(),
            statistics={},
        )


def test_a_release_spends_in_the_transaction_that_publishes_it() -> None:
    table, paying = aggregate_table(), account(1.0)
    report = publish(table, paying, charge(0.75), run_id=f"run-{table.name}")
    assert [(check.name, check.passed) for check in report.checks] == [("budget_respected", True)]
    with connect(Role.COMPLIANCE) as connection:
        (entry,) = entries(connection, target=table.qualified)
        assert (entry.epsilon, entry.total_epsilon, entry.composition) == (0.75, 0.75, "basic")
        assert connection.execute(
            "SELECT plan FROM governance.private_releases WHERE target = %s", [table.qualified]
        ).fetchall() == [({"epsilon": 1},)]
        (logged,) = audit.entries(connection, action=audit.AuditAction.BUDGET_SPEND, dataset=table.name)
        assert logged.details["epsilon"] == 0.75
    with pytest.raises(GateError, match="budget_respected"):
        publish(table, paying, charge(0.5), run_id=f"again-{table.name}")
    with connect() as connection:
        assert len(entries(connection, target=table.qualified)) == 1
        assert standing(connection, table.qualified) == {None: FINGERPRINT}
        assert count_rows(connection, table.zone, table.name) == 1
    with connect(Role.COMPLIANCE) as connection:
        failed, *_ = audit.entries(connection, action=audit.AuditAction.CHECK_FAILED, dataset=table.name)
        assert failed.details["check"] == "budget_respected"


def test_of_two_runs_that_together_exceed_the_budget_exactly_one_publishes() -> None:
    paying, tables = account(1.0), [aggregate_table(), aggregate_table()]
    ready = threading.Barrier(2)
    ended: dict[str, ReleaseReport | GateError] = {}

    def run(table: Table) -> None:
        try:
            ended[table.name] = publish(table, paying, charge(0.75), run_id=f"run-{table.name}", ready=ready)
        except GateError as error:
            ended[table.name] = error

    with connect() as connection:  # alone, each of them could be paid
        for table in tables:
            check_before(connection, paying, table.qualified, [charge(0.75)])
    threads = [threading.Thread(target=run, args=[table]) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    published = [table for table in tables if isinstance(ended[table.name], ReleaseReport)]
    (refused,) = [error for error in ended.values() if isinstance(error, GateError)]
    assert len(published) == 1
    assert [check.name for check in refused.checks if check.failed] == ["budget_respected"]
    with connect() as connection:
        for table in tables:
            stands = table in published
            assert bool(table_columns(connection, table.zone, table.name)) == stands
            assert bool(entries(connection, target=table.qualified)) == stands
        assert balance(connection, paying).left == 0.25


def test_an_exact_release_in_between_leaves_nothing_standing() -> None:
    table, paying = aggregate_table(), account(2.0)
    publish(table, paying, charge(1.0), run_id=f"private-{table.name}")
    publish(table, None, run_id=f"exact-{table.name}")
    with connect() as connection:
        assert standing(connection, table.qualified) == {}
    publish(table, paying, charge(1.0), run_id=f"anew-{table.name}")
    with connect() as connection:
        assert standing(connection, table.qualified) == {None: FINGERPRINT}
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table.zone, table.name)))
        assert standing(connection, table.qualified) == {}
        connection.rollback()


def test_days_that_were_carried_over_stand_and_cost_nothing() -> None:
    table, paying = aggregate_table(), account(1.0, unit=PrivacyUnit.USER_DAY)
    publish(table, paying, charge(1.0, MONDAY), run_id=f"monday-{table.name}")
    with connect() as connection:
        kept = standing(connection, table.qualified)
    publish(table, paying, charge(1.0, TUESDAY), run_id=f"tuesday-{table.name}", kept=kept)
    with connect() as connection:
        assert standing(connection, table.qualified) == {MONDAY: FINGERPRINT, TUESDAY: FINGERPRINT}
        assert balance(connection, paying).spent.epsilon == 1.0
        assert standing(connection, "analytics.never_released") == {}
