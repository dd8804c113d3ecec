"""How long do a risk report and an intersection of two releases take, and what do they hold in memory?

The tables are made in PostgreSQL with the columns of `anonymized_users`, their quasi-identifiers evenly spread: far
more distinct combinations than real people have, so the unfavourable case. The second release has lost one person of
256 and puts another two of 256 into another class.
"""

import argparse
import tempfile
from pathlib import Path

from psycopg import sql

from benchmarks.common import Timing, machine, measure, peak_memory_bytes, save, show
from benchmarks.users_end_to_end import private_home
from privacy_platform.anonymization.risk.report import Options
from privacy_platform.policy.load import load_policies
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.intersection import intersect_tables
from privacy_platform.warehouse.risk import table_risk

_PEOPLE = """
CREATE TABLE anonymized.anonymized_users AS
SELECT 'tok_' || md5(i::text) AS user_token, md5('e' || i) AS email_hash,
       (ARRAY['0-17', '18-24', '25-34', '35-44', '45-54', '55-64', '65+'])[1 + floor(random() * 7)::int] AS age_bucket,
       (ARRAY['female', 'male', 'other', 'unknown'])[1 + floor(random() * random() * 4)::int] AS gender,
       'R' || state % 6 AS region, 'S' || state AS state, to_char(zip, 'FM000') || '**' AS zip_prefix,
       timestamptz '2020-01-01' + month * interval '1 month' AS created_at,
       timestamptz '2025-01-01' + floor(random() * 400) * interval '1 day' AS last_login,
       (ARRAY['active', 'inactive', 'suspended'])[1 + floor(random() * 3)::int] AS account_status,
       (ARRAY['free', 'basic', 'premium', 'enterprise'])[1 + floor(random() * random() * 4)::int] AS subscription_tier,
       round((random() * 5000)::numeric, 2)::float8 AS lifetime_value, floor(random() * 60)::bigint AS total_purchases
FROM (SELECT i, floor(random() * 50)::int AS state, floor(random() * 400)::int AS zip,
             floor(random() * 36)::int AS month
      FROM generate_series(1, {rows}) i) drawn
"""
_SUCCESSOR = """
CREATE TABLE staging.successor AS
SELECT user_token, CASE WHEN right(user_token, 2) IN ('bb', 'cc') THEN '65+' ELSE age_bucket END AS age_bucket,
       gender, region, state, zip_prefix, created_at
FROM anonymized.anonymized_users WHERE right(user_token, 2) <> 'aa'
"""
_OLD, _NEW = ("anonymized", "anonymized_users"), ("staging", "successor")
_QUASI = ("age_bucket", "gender", "region", "state", "zip_prefix", "created_at")


def run(rows: int, runs: int) -> list[Timing]:
    """Measure on tables of `rows` people in the warehouse of this process's home."""
    policies = load_policies().anonymized_tables
    with connect() as connection:
        connection.execute("DROP TABLE IF EXISTS anonymized.anonymized_users, staging.successor")
        connection.execute("SELECT setseed(0.5)")
        connection.execute(sql.SQL(_PEOPLE).format(rows=sql.Literal(rows)))
        connection.execute(_SUCCESSOR)
        connection.commit()
        connection.execute("ANALYZE anonymized.anonymized_users")
        connection.execute("ANALYZE staging.successor")
        connection.commit()

        def report(with_combinations: bool) -> None:
            table_risk("anonymized_users", Role.ANALYST, policies, options=Options(with_combinations=with_combinations))

        return [
            measure("risk report without combinations", rows, lambda: report(False), runs=runs, warm_up=True),
            measure("risk report", rows, lambda: report(True), runs=runs),
            measure(
                "intersection of two releases",
                rows,
                lambda: intersect_tables(connection, _OLD, _NEW, "user_token", _QUASI, 5),
                runs=runs,
            ),
        ]


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.risk", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    facts = machine(["polars", "numpy", "adbc-driver-postgresql"])
    with tempfile.TemporaryDirectory(prefix="pp-") as folder, private_home(Path(folder)):
        timings = [timing for rows in options.rows for timing in run(rows, options.runs)]
    facts["peak_memory_bytes"] = peak_memory_bytes()
    show("Risk", timings, facts)
    save(options.json, timings, facts)


if __name__ == "__main__":
    main()
