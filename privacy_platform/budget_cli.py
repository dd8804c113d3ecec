"""`privacy-platform budget`: what is spent, what a release costs and promises, and what others would.

For compliance: every look is in the audit log before anything is shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from privacy_platform.console import Json, command, out, show_json, show_table
from privacy_platform.errors import PrivacyPlatformError

if TYPE_CHECKING:
    from psycopg import Connection

    from privacy_platform.anonymization.dp.utility import MeasureUtility
    from privacy_platform.governance.budget import Balance
    from privacy_platform.policy.load import PolicySet
    from privacy_platform.policy.model import AggregatePolicy

budget_app = typer.Typer(help="The privacy budget and what it buys; for compliance.", no_args_is_help=True)

TableName = Annotated[str, typer.Argument(help="A differentially private table, e.g. daily_event_metrics.")]


@command(budget_app, "show")
def show(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Releases to show.")] = 20, as_json: Json = False
) -> None:
    """Show what is spent and left of every budget, and on what; the look itself is recorded."""
    from privacy_platform.governance import budget
    from privacy_platform.policy.accounts import accounts
    from privacy_platform.policy.load import load_policies

    with _compliance("privacy budget") as connection:
        balances = [budget.balance(connection, account) for account in accounts(load_policies().datasets)]
        spent = budget.entries(connection, limit=limit)
    if as_json:
        show_json({"budgets": [_balance(each) for each in balances], "releases": [asdict(each) for each in spent]})
        return
    rows = [
        [b["dataset"], b["unit"], f"{b['epsilon']:g}", f"{b['delta']:g}", f"{b['spent']:.4g}", b["composition"],
         f"{b['left']:.4g}", b["worst_day"] or "", b["renews_at"] or "never", f"{b['charges']:,}"]
        for b in map(_balance, balances)
    ]  # fmt: skip
    columns = [
        "dataset",
        "unit",
        "#epsilon",
        "#delta",
        "#spent",
        "composition",
        "#left",
        "worst day",
        "renews",
        "#charges",
    ]
    show_table("Privacy budgets", columns, [[str(cell) for cell in row] for row in rows])
    releases = [
        [f"{e.spent_at:%Y-%m-%d %H:%M:%S}", e.target, e.privacy_unit, _days(e.first, e.last, e.periods),
         f"{e.epsilon:g}", f"{e.delta:g}", e.mechanism, f"{e.total_epsilon:.4g} ({e.composition})", e.run_id[:8]]
        for e in spent
    ]  # fmt: skip
    show_table(
        "Spent on",
        ["at (UTC)", "table", "unit", "days", "#epsilon", "#delta", "mechanism", "#total after", "run"],
        releases,
    )
    out.print(
        "Of unit user_day the day that has lost most is shown: who was there on n days loses up to n times that.",
        highlight=False,
    )


@command(budget_app, "explain")
def explain(table: TableName, as_json: Json = False) -> None:
    """Say what a private table hides, by how much noise, what error it promises, and what is left for it."""
    from privacy_platform.governance import budget
    from privacy_platform.policy import explanation
    from privacy_platform.policy.accounts import account_of
    from privacy_platform.policy.load import load_policies
    from privacy_platform.policy.private import plan_of

    policies = load_policies()
    policy = _private(policies, table)
    plan = plan_of(policy)
    assert policy.privacy is not None  # noqa: S101 - it is private
    account = account_of(policies.anonymized_tables[policy.source].dataset, policy.privacy.unit, policies.datasets)
    with _compliance("privacy budget", f"analytics.{policy.aggregate}") as connection:
        balance = budget.balance(connection, account) if account else None
        more = budget.releases_left(connection, account, plan.loss) if account else 0
    said = explanation.in_words(policy, plan)
    document = {
        "table": policy.aggregate,
        "in_words": said,
        **explanation.document(policy, plan),
        "budget": _balance(balance) if balance else None,
        "releases_left": more,
    }
    if as_json:
        show_json(document)
        return
    out.print(f"[bold]analytics.{policy.aggregate}[/]: {escape(policy.description)}", highlight=False)
    for sentence in said:
        out.print(f"- {escape(sentence)}", highlight=False, soft_wrap=True)
    show_table(
        "Noise",
        ["query", "measure", "#sensitivity (L1)", "#(L2)", "#scale", "#epsilon", "#rho"],
        [
            [planned.query.name, planned.query.measure, _figure(planned.l1 * planned.query.step),
             _figure(planned.l2 * planned.query.step), _figure(planned.unit_scale), _figure(planned.epsilon),
             _figure(planned.rho)]
            for planned in plan.queries.values()
        ],
    )  # fmt: skip
    sizes = explanation.GROUP_SIZES
    show_table(
        "Promised error: 95 of 100 figures are within it; in a group of so many people of one row each",
        ["figure", *(f"#{size:,}" for size in sizes)],
        [
            [name, *(_figure(errors[size]) for size in sizes)]
            for name, errors in explanation.promised_errors(policy, plan).items()
        ],
    )
    if balance:
        when = f", renews on {balance.renews_at:%Y-%m-%d}" if balance.renews_at else ", never renews"
        many = f"{more:,}" if more < 1000 else "a thousand or more"
        whose = "" if balance.period is None else f" (of {balance.period}, the day that has lost most)"
        out.print(
            f"Budget of {balance.account.dataset}, unit {balance.account.unit}: epsilon {balance.spent.epsilon:.4g} of "
            f"{balance.account.budget.epsilon:g} is spent{whose}{when}. It pays for {many} more such releases.",
            highlight=False,
        )


@command(budget_app, "simulate")
def simulate(
    table: TableName,
    epsilon: Annotated[str, typer.Option(help="Epsilons to try: 0.5,1,2 [the policy's].")] = "",
    groups_per_unit: Annotated[str, typer.Option(help="Bounds to try: 4,8,16 [the policy's].")] = "",
    rows_per_group: Annotated[str, typer.Option(help="Bounds to try: 5,20 [the policy's].")] = "",
    rows_per_unit: Annotated[str, typer.Option(help="Bounds to try: 10,30 [the policy's].")] = "",
    as_json: Json = False,
) -> None:
    """Show the error for other epsilons and bounds on the present data. Looking at this is not private itself."""
    from privacy_platform.engine.session import spark_session
    from privacy_platform.engine.trial import trials
    from privacy_platform.policy.load import load_policies
    from privacy_platform.warehouse.connection import Role, connect

    policies = load_policies()
    policy = _private(policies, table)
    privacy = policy.privacy
    assert privacy is not None  # noqa: S101 - it is private
    epsilons = _numbers("--epsilon", epsilon, privacy.epsilon, 20.0)
    groups = [
        int(n) for n in _numbers("--groups-per-unit", groups_per_unit, privacy.groups_per_unit, 10_000, whole=True)
    ]
    rows = [int(n) for n in _numbers("--rows-per-group", rows_per_group, privacy.rows_per_group, 100_000, whole=True)]
    in_all: list[int | None] = [privacy.rows_per_unit]
    if rows_per_unit:
        in_all = [int(n) for n in _numbers("--rows-per-unit", rows_per_unit, 1, 1_000_000, whole=True)]
    with _compliance("budget simulation", f"analytics.{policy.aggregate}"):
        pass
    with connect(Role.PIPELINE) as connection:
        tried = list(
            trials(
                spark_session(),
                connection,
                policy,
                policies,
                epsilons=epsilons,
                groups=groups,
                rows=rows,
                in_all=in_all,
            )
        )
    if as_json:
        show_json({"table": policy.aggregate, "private": False, "trials": [asdict(trial) for trial in tried]})
        return
    out.print(
        "[bold yellow]These figures are made of the exact ones. Looking at them is not private, and no budget pays for "
        "it:[/] keep them with compliance, and do not choose parameters by them release after release.",
        highlight=False,
        soft_wrap=True,
    )
    for trial in tried:
        in_each = f"{trial.groups_per_unit:,} groups a unit and {trial.rows_per_group:,} rows a group"
        together = f", {trial.rows_per_unit:,} rows in all" if trial.rows_per_unit else ""
        title = f"epsilon {trial.epsilon:g}, at most {in_each}{together}: {trial.counted:.1%} of the rows count"
        _show_utility(title, trial.utility)


@command(budget_app, "report")
def report(
    table: TableName,
    last: Annotated[bool, typer.Option("--last", help="Show what was measured last, and measure nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Hold the standing table against the exact figures, and keep what was found. Not private itself."""
    from privacy_platform.engine.session import spark_session
    from privacy_platform.engine.trial import measured
    from privacy_platform.governance import budget, utility
    from privacy_platform.policy.load import load_policies
    from privacy_platform.warehouse.connection import Role, connect

    policies = load_policies()
    policy = _private(policies, table)
    target = f"analytics.{policy.aggregate}"
    with _compliance("utility report", target):
        pass
    if not last:
        with connect(Role.PIPELINE) as connection:
            if not budget.standing(connection, target):
                raise PrivacyPlatformError(f"{target}: no private release stands; materialize it first.")
            utility.record(connection, target, measured(spark_session(), connection, policy, policies))
    with connect(Role.COMPLIANCE) as connection:
        found = utility.latest(connection, target)
        newer = _released_since(connection, policies, policy)
    if as_json:
        measures = [asdict(row) for row in found]
        show_json({"table": policy.aggregate, "private": False, "released_since": newer, "measures": measures})
    elif found:
        _show_utility(f"{target}, measured at {found[0].measured_at:%Y-%m-%d %H:%M:%S} (UTC); not private", found)
    else:
        out.print(f"Nothing was measured of {target} yet.", highlight=False)
    if newer and not as_json:
        out.print(
            f"Note: released after {target}: {', '.join(newer)}. What changed there counts as error here.",
            highlight=False,
            soft_wrap=True,
        )


def _released_since(connection: "Connection", policies: "PolicySet", policy: "AggregatePolicy") -> list[str]:
    """The tables it is made from that were released after it."""
    from privacy_platform.governance.audit import last_publications
    from privacy_platform.policy.compile import aggregate_table, anonymized_table

    def last(table: str) -> int:
        return max(last_publications(connection, table).values(), default=0)

    table = aggregate_table(policy, policies)
    sources = [anonymized_table(policies.anonymized_tables[name]).qualified for name in table.upstream]
    return [source for source in sources if last(source) > last(table.qualified)]


@contextmanager
def _compliance(read: str, subject_table: str | None = None) -> Iterator["Connection"]:
    """A connection of the compliance role, the look on record before anything is shown."""
    from privacy_platform.governance.audit import AuditAction, AuditEntry, record
    from privacy_platform.warehouse.connection import Role, connect
    from privacy_platform.warehouse.migrations import ensure_warehouse

    ensure_warehouse()
    with connect(Role.COMPLIANCE) as connection:
        record(connection, AuditEntry(AuditAction.RESTRICTED_READ, subject_table=subject_table, details={"read": read}))
        connection.commit()
        yield connection


def _private(policies: "PolicySet", table: str) -> "AggregatePolicy":
    policy = policies.aggregates.get(table.removeprefix("analytics."))
    private = sorted(name for name, each in policies.aggregates.items() if each.is_private)
    if policy is None or not policy.is_private:
        there = f"there are {', '.join(private)}" if private else "there is none"
        raise PrivacyPlatformError(f"{table} is not a table released with differential privacy; {there}.")
    return policy


def _numbers(option: str, text: str, given: float, most: float, *, whole: bool = False) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")] if text.strip() else [float(given)]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < n <= most and (not whole or n == int(n)) for n in numbers):
        kind = "whole numbers" if whole else "numbers"
        raise PrivacyPlatformError(f"{option}: write {kind} above 0 and up to {most:g}, with commas between them.")
    return numbers


def _balance(balance: "Balance") -> Mapping[str, object]:
    account = balance.account
    return {
        "dataset": account.dataset,
        "unit": str(account.unit),
        "epsilon": account.budget.epsilon,
        "delta": account.budget.delta,
        "spent": balance.spent.epsilon,
        "composition": balance.spent.composition,
        "left": balance.left,
        "worst_day": None if balance.period is None else f"{balance.period}",
        "renews": account.budget.renews,
        "renews_at": None if balance.renews_at is None else f"{balance.renews_at:%Y-%m-%d}",
        "charges": balance.releases,
    }


def _days(first: object, last: object, periods: int) -> str:
    if first is None:
        return "all"
    return f"{first}" if first == last else f"{first} to {last} ({periods:,})"


def _show_utility(title: str, found: "Sequence[MeasureUtility]") -> None:
    rows = [
        [row.measure, f"{row.people_from:,}", f"{row.cells:,}", f"{row.hidden:,}", _figure(row.promised_error),
         _figure(row.measured_error), _share(row.within_promise), _share(row.median_relative_error)]
        for row in found
        if row.cells or row.hidden
    ]  # fmt: skip
    show_table(
        title,
        [
            "figure",
            "#people from",
            "#groups",
            "#not shown",
            "#promised 95 %",
            "#measured 95 %",
            "#within",
            "#median relative",
        ],
        rows,
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
