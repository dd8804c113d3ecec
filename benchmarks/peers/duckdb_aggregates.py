"""The packaged aggregates in DuckDB over Parquet: the same figures as our exact releases, by the same way of counting.

Inside: reading Parquet, grouping, leaving out groups of too few people and figures of too few. Not inside, unlike ours:
reading from PostgreSQL, checks, publishing. `daily_event_metrics` looks at its sessions by a grouping and a join, which
is faster in DuckDB than a window.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import duckdb
import polars as pl

__all__ = ["QUERIES", "Aggregator"]

_LEAST = 5
"""The packaged `minimum_group_size`."""


def _enough(figure: str, people: str) -> str:
    return f"CASE WHEN {people} = 0 OR {people} >= {_LEAST} THEN {figure} END"


QUERIES: Mapping[str, str] = {
    "user_cohorts": f"""
WITH persons AS (
    SELECT date_trunc('month', created_at)::DATE AS cohort_month, coalesce(region, 'unknown') AS region,
           coalesce(age_bucket, 'unknown') AS age_bucket, coalesce(gender, 'unknown') AS gender,
           coalesce(subscription_tier, 'unknown') AS subscription_tier, user_token,
           count(*) FILTER (account_status = 'active') AS active,
           count(lifetime_value) AS n_value, sum(lifetime_value) AS s_value,
           count(total_purchases) AS n_bought, sum(total_purchases::DOUBLE) AS s_bought
    FROM users GROUP BY ALL
)
SELECT cohort_month, region, age_bucket, gender, subscription_tier, count(*) AS total_users,
       {_enough("count(*) FILTER (active > 0)", "count(*) FILTER (active > 0)")} AS active_users,
       {_enough("sum(s_value) / sum(n_value)", "count(*) FILTER (n_value > 0)")} AS avg_lifetime_value,
       {_enough("sum(s_bought) / sum(n_bought)", "count(*) FILTER (n_bought > 0)")} AS avg_purchases,
       {_enough("coalesce(sum(s_value), 0)", "count(*) FILTER (n_value > 0)")} AS total_revenue
FROM persons WHERE cohort_month IS NOT NULL GROUP BY ALL HAVING count(*) >= {_LEAST}
""",
    "daily_event_metrics": f"""
WITH sessions AS (
    SELECT session_hash, epoch_us(max(timestamp) - min(timestamp)) / 1e6 AS seconds
    FROM events WHERE session_hash IS NOT NULL GROUP BY session_hash
), rows AS (
    SELECT e.timestamp::DATE AS event_date, coalesce(event_type, 'unknown') AS event_type,
           coalesce(region, 'unknown') AS region, coalesce(device_type, 'unknown') AS device_type,
           e.user_token, e.session_hash
    FROM events e LEFT JOIN users u USING (user_token)
), persons AS (
    SELECT event_date, event_type, region, device_type, user_token, count(*) AS n, count(session_hash) AS n_session
    FROM rows GROUP BY ALL
), once AS (
    SELECT DISTINCT event_date, event_type, region, device_type, session_hash
    FROM rows WHERE session_hash IS NOT NULL
), durations AS (
    SELECT event_date, event_type, region, device_type, avg(seconds) AS seconds
    FROM once JOIN sessions USING (session_hash) GROUP BY ALL
), groups AS (
    SELECT event_date, event_type, region, device_type, sum(n)::BIGINT AS total_events, count(*) AS unique_users,
           count(*) FILTER (n_session > 0) AS people
    FROM persons WHERE event_date IS NOT NULL GROUP BY ALL HAVING count(*) >= {_LEAST}
)
SELECT event_date, event_type, region, device_type, total_events, unique_users,
       {_enough("seconds", "people")} AS avg_session_duration
FROM groups LEFT JOIN durations USING (event_date, event_type, region, device_type)
""",
    "product_metrics": f"""
WITH persons AS (
    SELECT timestamp::DATE AS analysis_date, product_id, user_token,
           count(*) FILTER (event_type = 'page_view') AS viewed,
           count(*) FILTER (event_type = 'add_to_cart') AS carted,
           count(*) FILTER (event_type = 'purchase') AS bought,
           count(price * quantity) FILTER (event_type = 'purchase') AS n_revenue,
           sum(price * quantity) FILTER (event_type = 'purchase') AS revenue,
           count(price) FILTER (event_type = 'purchase') AS n_price,
           sum(price) FILTER (event_type = 'purchase') AS s_price
    FROM events GROUP BY ALL
), figures AS (
    SELECT analysis_date, product_id,
           {_enough("sum(viewed)::BIGINT", "count(*) FILTER (viewed > 0)")} AS total_views,
           {_enough("sum(carted)::BIGINT", "count(*) FILTER (carted > 0)")} AS total_add_to_cart,
           {_enough("sum(bought)::BIGINT", "count(*) FILTER (bought > 0)")} AS total_purchases,
           {_enough("coalesce(sum(revenue), 0)", "count(*) FILTER (n_revenue > 0)")} AS total_revenue,
           {_enough("sum(s_price) / sum(n_price)", "count(*) FILTER (n_price > 0)")} AS avg_price
    FROM persons WHERE analysis_date IS NOT NULL AND product_id IS NOT NULL
    GROUP BY ALL HAVING count(*) >= {_LEAST}
)
SELECT analysis_date, product_id, total_views, total_add_to_cart, total_purchases,
       CASE WHEN total_views <> 0 THEN total_purchases / total_views END AS conversion_rate, total_revenue, avg_price
FROM figures
""",
    "event_windows": f"""
SELECT date_trunc('minute', timestamp) AS window_start, coalesce(event_type, 'unknown') AS event_type,
       coalesce(device_type, 'unknown') AS device_type, count(*) AS events, count(DISTINCT user_token) AS unique_users
FROM events GROUP BY ALL HAVING count(DISTINCT user_token) >= {_LEAST}
""",
}
"""Aggregate → its query over the views `users` and `events`."""


class Aggregator:
    """DuckDB over two Parquet files; a context manager."""

    def __init__(self, users: Path, events: Path, *, threads: int | None = None, memory: str = "4GB") -> None:
        self._connection = duckdb.connect(config={"threads": threads or os.cpu_count() or 1, "memory_limit": memory})
        for name, file in (("users", users), ("events", events)):
            self._connection.execute(f"CREATE VIEW {name} AS FROM read_parquet('{file}')")

    def __enter__(self) -> "Aggregator":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def compute(self, name: str) -> pl.DataFrame:
        """One aggregate."""
        frame = pl.from_arrow(self._connection.sql(QUERIES[name]).to_arrow_table())
        assert isinstance(frame, pl.DataFrame)
        return frame
