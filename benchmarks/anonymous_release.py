"""What does anonymity cost a release, and how does that grow?

For each number of users, once landed, `release_anonymized` is timed in turns under the packaged policy (k = 5 and l = 2
over six quasi-identifiers: levels searched, k and l proved in SQL) and under the same policy at fixed levels without a
privacy model. The pairs' ratio is what anonymity adds; the target is at most 1.3 at a million users. Beside it: what
was found, and the driver's highest memory so far.
"""

import argparse
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from psycopg import sql
from pyspark.sql import SparkSession

from benchmarks.common import Timing, machine, peak_memory_bytes, save, show
from benchmarks.peers.fixed_levels import fixed_users
from benchmarks.users_end_to_end import paired, private_home
from privacy_platform.engine.gate import ReleaseReport, Run
from privacy_platform.engine.release_anonymized import release_anonymized
from privacy_platform.engine.release_raw import release_raw
from privacy_platform.engine.session import spark_session
from privacy_platform.policy.compile import anonymized_table, raw_table
from privacy_platform.policy.load import load_policies
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.synthetic import generate
from privacy_platform.warehouse.connection import Role, connect

PACKAGES = ("pyspark", "polars", "numpy")


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anonymous_release", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--users", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    facts = machine(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="privacy-platform-") as name, private_home(Path(name)):
        spark = spark_session()
        timings: list[Timing] = []
        for users in options.users:
            made, noted = measured(spark, users, options.runs, Path(name) / f"landing-{users}")
            timings += made
            facts |= {f"{users} users: {key}": value for key, value in noted.items()}
        spark.stop()
        show("Releasing anonymized_users", timings, facts)
        save(options.json, timings, facts)


def measured(spark: SparkSession, users: int, runs: int, folder: Path) -> tuple[list[Timing], dict[str, Any]]:
    """Timings of both ways in turns, and what was found."""
    policies, fixed = load_policies(), fixed_users()
    searched = policies.datasets["users"]
    report = generate(users=users, events=0, out=folder, seed=1)
    file = next(made.path for made in report.files if made.dataset == "users")
    release_raw(lambda: spark, searched, [file], Run(uuid.uuid4().hex))
    file.unlink()
    seconds: dict[str, list[float]] = {"fixed": [], "searched": []}
    found: list[ReleaseReport] = []

    def release(policy: DatasetPolicy, kind: str) -> None:
        with connect(Role.ADMIN, autocommit=True) as connection:  # a first release each: nothing to compare with
            _drop(connection, anonymized_table(policy).qualified)
            connection.execute("CHECKPOINT")
        begin = time.perf_counter()
        done = release_anonymized(lambda: spark, policy, policies, Run(uuid.uuid4().hex))
        seconds[kind].append(time.perf_counter() - begin)
        if kind == "searched":
            found.append(done)

    release(fixed, "fixed")
    seconds["fixed"].clear()  # the first warms the session up
    for _ in range(runs):
        release(fixed, "fixed")
        release(searched, "searched")
    anonymity = found[-1].anonymity
    assert anonymity is not None
    ratios = paired(seconds["searched"], seconds["fixed"])
    with connect(Role.ADMIN, autocommit=True) as connection:
        _drop(connection, anonymized_table(searched).qualified)
        _drop(connection, raw_table(searched).qualified)
        connection.execute("TRUNCATE vault.subjects")
    return [Timing(f"{users:,} users, {kind}", tuple(times), users) for kind, times in seconds.items()], {
        "searched / fixed": round(statistics.median(ratios), 2),
        "pair by pair": [round(ratio, 2) for ratio in ratios],
        "levels": dict(anonymity.levels),
        "loss": round(anonymity.loss, 4),
        "suppressed": anonymity.suppressed,
        "classes": anonymity.classes,
        "driver_memory_mb": round(peak_memory_bytes() / 1e6),
    }


def _drop(connection: Any, table: str) -> None:
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(sql.Identifier(*table.split("."))))


if __name__ == "__main__":
    main()
