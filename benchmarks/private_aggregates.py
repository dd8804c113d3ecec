"""What does differential privacy cost a release: in time, and in accuracy?

Users and events are generated, landed and anonymized once. Then `daily_event_metrics` is released exactly and
privately in turns, by the packaged policy (epsilon 1 for a user's day, the whole table). The pairs' ratio of seconds is
the cost in time; the target is at most 1.5.

The private table is then held against the exact one (all cells with two people and more): the median relative error of
every figure by the cell's people, bias of the bounds included; the target is at most 5 % over all figures of cells of
1,000 people and more. Beside it stands what published formulas say of the noise alone: the median of |N(0, s)| is
0.6745 s with s = sqrt(groups) rows / sqrt(2 rho), and rho from epsilon and delta by Canonne, Kamath and Steinke 2020;
and of the Laplace mechanism (Dwork et al. 2006) with the same shares, ln 2 groups rows / epsilon.
"""

import argparse
import math
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from psycopg import sql
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.common import Timing, machine, save, show
from benchmarks.users_end_to_end import paired, private_home
from privacy_platform.anonymization.dp.mechanisms import Mechanism
from privacy_platform.anonymization.dp.plan import Plan
from privacy_platform.engine.gate import Run
from privacy_platform.engine.release_aggregate import release_aggregate
from privacy_platform.engine.release_anonymized import release_anonymized
from privacy_platform.engine.release_raw import release_raw
from privacy_platform.engine.session import spark_session
from privacy_platform.policy.load import PolicySet, load_policies
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.private import PEOPLE, plan_of
from privacy_platform.policy.tables import Partition
from privacy_platform.synthetic import generate
from privacy_platform.warehouse.connection import Role, connect

PACKAGES = ("pyspark", "polars", "opendp")
TABLE = "daily_event_metrics"
SIZES = ((2, 10), (10, 100), (100, 1_000), (1_000, 10**9))


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.private_aggregates", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    facts = machine(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="privacy-platform-") as name, private_home(Path(name)):
        spark = spark_session()
        policies = _policies()
        _anonymize(spark, policies, options.users, options.events, Path(name) / "landing")
        timings, ratio = _timed(spark, policies, options.events, options.runs)
        errors = _errors(policies.aggregates[TABLE])
        spark.stop()
    facts |= {"private / exact": ratio, "target": "at most 1.5"}
    show(f"Releasing {TABLE}", timings, facts)
    _show(errors)
    whole = next(
        row["median relative error"] for row in errors if row["figure"] == "all" and row["from"] == SIZES[-1][0]
    )
    print(f"all figures of cells of {SIZES[-1][0]:,} people and more: {_percent(whole)} (target: at most 5 %)")
    save(options.json, timings, facts | {"errors": errors})


def _policies() -> PolicySet:
    """The packaged ones, with a budget for as many releases as are timed."""
    policies = load_policies()
    document = policies.datasets["users"].model_dump(mode="json")
    limits = {"epsilon": 100, "delta": 1e-3, "renews": "never"}
    users = type(policies.datasets["users"]).model_validate(document | {"privacy_budget": {"user_day": limits}})
    return PolicySet(policies.datasets | {"users": users}, policies.aggregates)


def _anonymize(spark: SparkSession, policies: PolicySet, users: int, events: int, folder: Path) -> None:
    report = generate(users=users, events=events, out=folder, seed=1, format="parquet")
    for name in ("users", "events"):
        policy = policies.datasets[name]
        files = [made.path for made in report.files if made.dataset == name]
        chosen = [Partition()]
        if policy.partition_by:
            moments = pl.scan_parquet(files).select(pl.col("timestamp").dt.date().unique()).collect()["timestamp"]
            chosen = [Partition(day) for day in sorted(moments)]
        release_raw(lambda: spark, policy, files, Run(uuid.uuid4().hex), selected=chosen)
        release_anonymized(lambda: spark, policy, policies, Run(uuid.uuid4().hex), selected=chosen)
        for file in files:
            file.unlink()


def _timed(spark: SparkSession, policies: PolicySet, events: int, runs: int) -> tuple[list[Timing], float]:
    """Both ways in turns, and the median ratio of the pairs; the tables of the last of each stay."""
    private = policies.aggregates[TABLE]
    document = private.model_dump(mode="json") | {"mode": "exact_with_minimum", "minimum_group_size": 2}
    exact = AggregatePolicy.model_validate(document | {"aggregate": f"{TABLE}_exact"})
    ways = {"exact": exact, "private": private}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, policy in ways.items():
            with connect(Role.ADMIN, autocommit=True) as connection:  # so that nothing stands
                table = sql.Identifier("analytics", policy.aggregate)
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(table))
                connection.execute("CHECKPOINT")
            begin = time.perf_counter()
            release_aggregate(
                lambda: spark, policy, PolicySet(policies.datasets, {policy.aggregate: policy}), Run(uuid.uuid4().hex)
            )
            if number:  # the first warms the session up
                seconds[name].append(time.perf_counter() - begin)
    ratio = round(statistics.median(paired(seconds["private"], seconds["exact"])), 2)
    return [Timing(name, tuple(times), events) for name, times in seconds.items()], ratio


def _errors(policy: AggregatePolicy) -> list[dict[str, Any]]:
    """Median relative error by figure and the cell's people, measured and by formula."""
    plan = plan_of(policy)
    with connect(Role.ADMIN) as connection:
        ours, exact = (_frame(connection, name) for name in (TABLE, f"{TABLE}_exact"))
    cells = exact.join(ours, on=list(policy.dimensions), how="left", suffix="_private")
    rows: list[dict[str, Any]] = []
    for low, high in SIZES:
        sized = cells.filter(pl.col("unique_users").is_between(low, high, closed="left"))
        every: list[float] = []
        for figure in policy.measures:
            known = sized.filter(pl.col(figure).is_not_null() & (pl.col(figure) != 0))
            off = (known[f"{figure}_private"] - known[figure]).abs() / known[figure].abs()
            within = (known[f"{figure}_private"] - known[figure]).abs() <= known[f"{figure}_error_95"]
            every += off.drop_nulls().to_list()
            rows.append(
                {
                    "from": low,
                    "figure": figure,
                    "cells": known.height,
                    "not shown": int(off.null_count()),
                    "median relative error": off.median(),
                    "by formula": _by_formula(plan, figure, known),
                    "by formula, Laplace": _by_formula(plan, figure, known, laplace=True),
                    "within the promise, bias included": within.mean(),
                }
            )
        rows.append({"from": low, "figure": "all", "cells": sized.height, "median relative error": _median(every)})
    return rows


def _by_formula(plan: Plan, figure: str, cells: pl.DataFrame, *, laplace: bool = False) -> float | None:
    """The median relative error of a count's noise alone; None for figures made of several."""
    found = [q for q in plan.queries.values() if q.query.measure == figure and q.query.name != "_keys"]
    if len(found) != 1 or not cells.height:
        return None
    (planned,) = found
    median = 0.6745 * planned.l2 / math.sqrt(2 * planned.rho)
    if laplace or plan.mechanism is Mechanism.LAPLACE:
        shares = {q.query.name: q.query.share for q in plan.queries.values()}
        share = shares[PEOPLE if planned.query.name == PEOPLE else planned.query.name] / sum(shares.values())
        median = math.log(2) * planned.l1 / (plan.loss.epsilon * share)
    return _median((median / cells[figure]).to_list())


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _frame(connection: Any, name: str) -> pl.DataFrame:
    cursor = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("analytics", name)))
    names = [column.name for column in cursor.description or ()]
    return pl.DataFrame(cursor.fetchall(), schema=names, orient="row", infer_schema_length=None)


def _show(errors: Sequence[dict[str, Any]]) -> None:
    table = RichTable(title="Private against exact")
    headings = [
        "people from",
        "figure",
        "cells",
        "not shown",
        "median relative error",
        "by formula",
        "Laplace",
        "within",
    ]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for row in errors:
        shares = [row.get(name) for name in list(row)[4:]]
        table.add_row(
            f"{row['from']:,}",
            row["figure"],
            f"{row['cells']:,}",
            f"{row.get('not shown', '')}",
            *(_percent(share) for share in ([row["median relative error"]] if row["figure"] == "all" else shares)),
        )
    Console(width=140).print(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


if __name__ == "__main__":
    main()
