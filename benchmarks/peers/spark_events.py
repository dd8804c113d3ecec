"""Spark SQL expressions and JDBC batches, from the events' file to the columns of `anonymized_events`.

No Python touches a row: `spark.read.json`, built-in functions, the JDBC writer with rewritten batches. Run as a program
of its own, like `row_udfs`, whose session and driver it uses; it prints seconds as JSON. Differences, all in its
favour: those of `duckdb_events`.
"""

import argparse
import json
import secrets
import sys
import time
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

from benchmarks.peers import tables
from benchmarks.peers.row_udfs import jdbc, session
from benchmarks.peers.texts import LEAST, OWN, PATTERNS, SUSPICIOUS
from privacy_platform.warehouse.release import STAGING

_EVENTS = (
    "event_id string, user_id string, event_type string, timestamp timestamp, page_url string, referrer string, "
    "device_type string, browser string, session_id string, ip_address string, search_query string, "
    "product_id string, quantity long, price double, video_id string, duration_seconds long"
)
_JOINED = [name for name in OWN if name != "user_id"]
_USERS = ", ".join(f"{name} string" for name in ("user_id", *_JOINED))
_IPV4 = r"^(?:[0-9]{1,3}\.){3}[0-9]{1,3}$"


def transformed(events: DataFrame, people: DataFrame) -> DataFrame:
    """The published columns, in the table's order."""
    token, key = secrets.token_hex(32), secrets.token_hex(32)
    address = f.col("ip_address")
    columns = {
        "event_id": f.col("event_id"),
        "user_token": f.concat(f.lit("tok_"), f.substring(_hashed("user_id", token), 1, 32)),
        "event_type": f.col("event_type"),
        "timestamp": f.date_trunc("second", "timestamp"),
        "page_url": _scrubbed("page_url"),
        "referrer": _scrubbed("referrer"),
        "device_type": f.col("device_type"),
        "browser": f.col("browser"),
        "session_hash": _hashed("session_id", key),
        "ip_subnet": f.when(address.rlike(_IPV4), f.regexp_replace(address, "[0-9]+$", "0")).otherwise(
            f.concat(f.regexp_extract(address, "^((?:[0-9a-f]{1,4}:){3})", 1), f.lit(":"))
        ),
        "search_query": _scrubbed("search_query"),
        **{n: f.col(n) for n in ("product_id", "quantity", "price", "video_id", "duration_seconds")},
        "anonymized_at": f.current_timestamp(),
    }
    joined = events.join(people, "user_id", "left")
    return joined.select(*(column.alias(name) for name, column in columns.items()))


def _hashed(name: str, key: str) -> Column:
    return f.sha2(f.concat(f.lit(key), f.col(name)), 256)


def _scrubbed(name: str) -> Column:
    text = changed = f.col(name)
    for pattern, replacement in PATTERNS:
        changed = f.regexp_replace(changed, pattern, replacement)
    text = f.when(text.rlike(SUSPICIOUS), changed).otherwise(text)
    for own, word in OWN.items():
        value = f.lower(f.col(own))
        escaped = f.concat(f.lit(r"(?i)(^|\W)\Q"), value, f.lit(r"\E($|\W)"))
        there = f.lower(f.col(name)).contains(value) & (f.length(value) >= LEAST)
        text = f.when(there, f.regexp_replace(text, escaped, f.lit(f"$1[{word}]$2"))).otherwise(text)
    return text


def run(spark: SparkSession, file: Path, users: Path, target: str) -> float:
    """Load `file` into `staging.<target>`; returns the seconds of the load."""
    url, properties = jdbc()
    begin = time.perf_counter()
    events, people = (spark.read.schema(s).json(str(p)) for s, p in ((_EVENTS, file), (_USERS, users)))
    transformed(events, people).write.jdbc(
        url, f"{STAGING}.{target}", mode="append", properties={**properties, "reWriteBatchedInserts": "true"}
    )
    return time.perf_counter() - begin


def main() -> None:
    """Warm up on the first file, load the second, print the seconds and the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.spark_events", description=__doc__)
    parser.add_argument("warm_up", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("users", type=Path)
    parser.add_argument("warm_up_target")
    parser.add_argument("target")
    options = parser.parse_args()
    spark = session()
    try:
        run(spark, options.warm_up, options.users, options.warm_up_target)
        seconds = run(spark, options.file, options.users, options.target)
    finally:
        spark.stop()
    sys.stdout.write(json.dumps({"seconds": seconds, "rows": tables.count(options.target)}) + "\n")


if __name__ == "__main__":
    main()
