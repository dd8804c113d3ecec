"""The ledger of privacy budgets: what stands, what is left, and spending it in the transaction that publishes.

Everything released about the same data subjects composes. At unit `user` all charges of an account add up. At unit
`user_day` the charges of one day do: no user's day is in the data of two days, so over days they compose in parallel
(McSherry 2009, "Privacy Integrated Queries", theorem 4) and the account stands where its worst day stands. What a
person loses over all their days is the sum over these days and is bounded by no account of unit `user_day`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from privacy_platform.anonymization.dp.accounting import ROUNDING, Loss, Total, composed, together
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.accounts import Account
from privacy_platform.warehouse.checks import BUDGET_RESPECTED, CheckOutcome

__all__ = [
    "Balance",
    "BudgetSpentError",
    "Charge",
    "LedgerEntry",
    "Spending",
    "balance",
    "budget_check",
    "check_before",
    "entries",
    "releases_left",
    "spend",
    "standing",
]

Period = date | None
_WHOLE = "whole"


class BudgetSpentError(PrivacyPlatformError):
    """A release would cost more than is left; names what is left and when the budget renews."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one period of a release costs: a day at unit `user_day`, or None for the whole table.

    `fingerprint` is a digest of the question and of the releases it was asked of.
    """

    period: Period
    loss: Loss
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What a release with differential privacy takes, and what stands in the table from then on.

    Attributes:
        account: who pays.
        target: the table, `schema.name`.
        run_id: the run that releases it.
        mechanism: in words, such as `discrete Gaussian, keys above a threshold`.
        charges: what is released anew; nothing else costs anything.
        stands: every period in the table, those carried over included, with its fingerprint.
        plan: how it was made, as JSON: see `privacy-platform budget explain`.
    """

    account: Account
    target: str
    run_id: str
    mechanism: str
    charges: tuple[Charge, ...]
    stands: Mapping[Period, str]
    plan: Mapping[str, object] = field(default_factory=dict)

    def summary(self) -> dict[str, object]:
        """What the audit log keeps of it: a unit never pays more than the charge that is largest."""
        return {
            "dataset": self.account.dataset,
            "unit": str(self.account.unit),
            "epsilon": max(charge.loss.epsilon for charge in self.charges),
            "delta": max(charge.loss.delta for charge in self.charges),
            "periods": len(self.charges),
        }


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How an account stands.

    Attributes:
        account: whose.
        spent: of the unit that has lost most since the budget renewed, at the budget's delta.
        period: that unit's day; None when it is no single day.
        renews_at: when the budget renews; None for never.
        releases: charges in the ledger since then.
    """

    account: Account
    spent: Total
    period: Period
    renews_at: datetime | None
    releases: int

    @property
    def left(self) -> float:
        """The epsilon that is left to releases whose epsilons add up; never below 0."""
        return max(0.0, self.account.budget.epsilon - self.spent.epsilon)

    @property
    def exceeded(self) -> bool:
        """Whether more was spent than there is."""
        return self.spent.epsilon > self.account.budget.epsilon * (1 + ROUNDING)


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """What one run spent on one table.

    Attributes:
        spent_at: when its last charge was written.
        dataset: who paid.
        privacy_unit: what is protected.
        target: the table.
        first: the first day charged; None where the whole table was.
        last: the last day charged.
        periods: how many days were charged; 1 for the whole table.
        epsilon: the largest that any of them was charged; delta and rho likewise.
        delta: see `epsilon`.
        rho: see `epsilon`; None when none is known.
        mechanism: in words.
        composition: what proved the account's total after it.
        total_epsilon: that total.
        total_delta: the delta at which it holds.
        run_id: the run.
    """

    spent_at: datetime
    dataset: str
    privacy_unit: str
    target: str
    first: Period
    last: Period
    periods: int
    epsilon: float
    delta: float
    rho: float | None
    mechanism: str
    composition: str
    total_epsilon: float
    total_delta: float
    run_id: str


def standing(connection: Connection, target: str) -> dict[Period, str]:
    """Period → fingerprint of what stands in a table; empty unless its last publication was a private one.

    Whoever asks the same of the same data again finds the fingerprint here: the numbers that stand are the answer, and
    giving it twice tells nothing more.
    """
    row = connection.execute(
        """
        SELECT r.stands FROM governance.private_releases r
        WHERE r.target = %(target)s AND to_regclass(%(target)s) IS NOT NULL AND r.run_id = (
            SELECT l.run_id FROM governance.privacy_audit_log l
            WHERE l.subject_table = %(target)s AND l.action = 'publish' ORDER BY l.seq DESC LIMIT 1)
        ORDER BY r.id DESC LIMIT 1
        """,
        {"target": target},
    ).fetchone()
    stands: Mapping[str, str] = row[0] if row else {}
    return {None if name == _WHOLE else date.fromisoformat(name): said for name, said in stands.items()}


def balance(connection: Connection, account: Account, charges: Iterable[Charge] = ()) -> Balance:
    """How an account stands, or would stand after further charges."""
    now = _now(connection)
    spent, releases = _spent(connection, account, now)
    for charge in charges:
        spent[charge.period] = together([spent.get(charge.period, Loss(0.0, rho=0.0)), charge.loss])
    period, total = _worst(spent, account.budget.delta)
    return Balance(account=account, spent=total, period=period, renews_at=account.budget.until(now), releases=releases)


def releases_left(connection: Connection, account: Account, loss: Loss, *, most: int = 1000) -> int:
    """How many more releases of this loss the unit that has lost most could pay, `most` or more counting as `most`."""
    period = balance(connection, account).period
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        after = balance(connection, account, [Charge(period, together([loss] * middle), "")])
        low, high = (low, middle) if after.exceeded else (middle, high)
    return low


def check_before(connection: Connection, account: Account, target: str, charges: Sequence[Charge]) -> None:
    """See that a release can be paid, before anything is computed. It may still be refused: see `spend`.

    Raises:
        BudgetSpentError: it cannot.
    """
    after = balance(connection, account, charges)
    if charges and after.exceeded:
        raise BudgetSpentError(f"{target} was not released. {_refusal(after, balance(connection, account))}")


def spend(connection: Connection, spending: Spending) -> CheckOutcome:
    """Write a release's charges into the ledger, in the caller's transaction, and recompute the account in SQL.

    Others who spend from the same account wait until the caller's transaction ends: of two that together cost too much
    only the first finds the budget respected. When the outcome is not passed, the caller must roll back.
    """
    account = spending.account
    connection.execute("SELECT governance.lock_account(%s, %s)", [account.dataset, str(account.unit)])
    before = balance(connection, account)
    after = balance(connection, account, spending.charges)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO governance.privacy_budget (dataset, privacy_unit, target, period, epsilon, delta, rho, "
            "rho_delta, mechanism, composition, total_epsilon, total_delta, fingerprint, run_id) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    account.dataset,
                    str(account.unit),
                    spending.target,
                    charge.period,
                    charge.loss.epsilon,
                    charge.loss.delta,
                    charge.loss.rho,
                    charge.loss.rho_delta,
                    spending.mechanism,
                    after.spent.composition,
                    after.spent.epsilon,
                    after.spent.delta,
                    charge.fingerprint,
                    spending.run_id,
                )
                for charge in spending.charges
            ],
        )
    connection.execute(
        "INSERT INTO governance.private_releases (run_id, target, stands, plan) VALUES (%s, %s, %s, %s)",
        [
            spending.run_id,
            spending.target,
            Jsonb({_WHOLE if period is None else f"{period}": said for period, said in spending.stands.items()}),
            Jsonb(dict(spending.plan)),
        ],
    )
    outcome = budget_check(connection, account)
    return outcome if outcome.passed else CheckOutcome(outcome.name, False, _refusal(after, before), outcome.figures)


def budget_check(connection: Connection, account: Account) -> CheckOutcome:
    """What the ledger holds against an account is within its budget: computed by PostgreSQL alone."""
    budget = account.budget
    parameters = {
        "dataset": account.dataset,
        "unit": str(account.unit),
        "since": budget.since(_now(connection)),
        "delta": budget.delta,
    }
    row = connection.execute(_RECOMPUTED, parameters).fetchone()
    total = float(row[0]) if row else 0.0
    return CheckOutcome(
        BUDGET_RESPECTED,
        total <= budget.epsilon * (1 + ROUNDING),
        f"{account.dataset}, unit {account.unit}: epsilon {total:.6g} of {budget.epsilon:g} is spent at delta "
        f"{budget.delta:g}",
        {"unit": str(account.unit), "epsilon_spent": total, "epsilon": budget.epsilon, "delta": budget.delta},
    )


def entries(connection: Connection, *, target: str | None = None, limit: int = 100) -> list[LedgerEntry]:
    """What was spent by the latest runs, latest first, on all tables or one."""
    with connection.cursor(row_factory=class_row(LedgerEntry)) as cursor:
        return cursor.execute(
            """
            SELECT max(spent_at) AS spent_at, dataset, privacy_unit, target, min(period) AS first, max(period) AS last,
                   count(*) AS periods, max(epsilon) AS epsilon, max(delta) AS delta, max(rho) AS rho,
                   min(mechanism) AS mechanism, min(composition) AS composition, max(total_epsilon) AS total_epsilon,
                   max(total_delta) AS total_delta, run_id
            FROM governance.privacy_budget WHERE %(target)s::text IS NULL OR target = %(target)s
            GROUP BY run_id, target, dataset, privacy_unit ORDER BY max(spend_id) DESC LIMIT %(limit)s
            """,
            {"target": target, "limit": limit},
        ).fetchall()


def _now(connection: Connection) -> datetime:
    """The server's clock: budgets renew by it, whatever the clocks of those who spend say."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT of a function gives a row
    now: datetime = row[0]
    return now


def _spent(connection: Connection, account: Account, now: datetime) -> tuple[dict[Period, Loss], int]:
    """Period → what was charged to it since the budget renewed, and the number of charges."""
    rows = connection.execute(
        """
        SELECT period, sum(epsilon::numeric)::float8, sum(delta::numeric)::float8,
               CASE WHEN bool_and(rho IS NOT NULL) THEN sum(rho::numeric)::float8 END, sum(rho_delta::numeric)::float8,
               count(*)
        FROM governance.privacy_budget
        WHERE dataset = %s AND privacy_unit = %s AND spent_at >= coalesce(%s, '-infinity'::timestamptz)
        GROUP BY period
        """,
        [account.dataset, str(account.unit), account.budget.since(now)],
    ).fetchall()
    return {row[0]: Loss(*row[1:5]) for row in rows}, sum(row[5] for row in rows)


def _worst(spent: Mapping[Period, Loss], delta: float) -> tuple[Period, Total]:
    """The period that has cost most. What was charged to no single day was charged to every day."""
    every = [spent[None]] if None in spent else []
    days = sorted(day for day in spent if day is not None)
    # Most days have lost the same.
    totals = {loss: composed([*every, loss], delta) for loss in {spent[day] for day in days}}
    worst: tuple[Period, Total] = (None, composed(every, delta))
    for day in days:
        if totals[spent[day]].epsilon > worst[1].epsilon:
            worst = (day, totals[spent[day]])
    return worst


def _refusal(after: Balance, before: Balance) -> str:
    account, budget = after.account, after.account.budget
    when = "it never renews" if after.renews_at is None else f"it renews on {after.renews_at:%Y-%m-%d}"
    day = f" on {after.period}" if after.period else ""
    cost = "more delta than there is" if after.spent.epsilon == float("inf") else f"epsilon {after.spent.epsilon:.4g}"
    return (
        f"The privacy budget of {account.dataset}, unit {account.unit}, is epsilon {budget.epsilon:g} at delta "
        f"{budget.delta:g}; {before.left:.4g} of it is left, and with this release{day} {cost} would be spent; {when}. "
        f"What stands stays. Wait, lower the release's epsilon, or raise privacy_budget.{account.unit} in the policy "
        f"of {account.dataset}"
    )


# Independent of the accounting in Python: the same theorems, evaluated by PostgreSQL on the rows of the ledger.
_RECOMPUTED = """
WITH charges AS (
         SELECT * FROM governance.privacy_budget
         WHERE dataset = %(dataset)s AND privacy_unit = %(unit)s
           AND spent_at >= coalesce(%(since)s, '-infinity'::timestamptz)),
     days AS (SELECT DISTINCT period AS day FROM charges WHERE period IS NOT NULL UNION ALL SELECT NULL),
     units AS (SELECT day, c.* FROM days JOIN charges c ON c.period = day
               UNION ALL SELECT day, c.* FROM days CROSS JOIN charges c WHERE c.period IS NULL),
     losses AS (SELECT sum(epsilon::numeric) AS epsilon, sum(delta::numeric) AS delta,
                       sum(rho_delta::numeric) AS failing,
                       CASE WHEN bool_and(rho IS NOT NULL) THEN sum(rho::numeric)::float8 END AS rho
                FROM units GROUP BY day)
SELECT coalesce(max(least(
    CASE WHEN delta <= %(delta)s::float8::numeric THEN epsilon::float8 ELSE 'infinity' END,
    CASE WHEN failing <= %(delta)s::float8::numeric
         THEN coalesce(governance.zcdp_epsilon(rho, (%(delta)s::float8::numeric - failing)::float8), 'infinity')
         ELSE 'infinity' END)), 0)
FROM losses
"""
