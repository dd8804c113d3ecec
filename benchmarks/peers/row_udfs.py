"""The usual design: `spark.read.json`, a Python function for each value, JDBC inserts in batches.

Run as a program of its own (`python -m benchmarks.peers.row_udfs --help`), because a session of its own it must have:
the JDBC driver has to be there when the JVM starts. It fetches the driver, and the unix sockets for it, from Maven
Central by `spark.jars.packages`. The functions are plain `pyspark.sql.functions.udf`. They are run in two ways: with
this Spark's defaults, by which the values of many rows travel together as Arrow, and row by row as pickles
(`spark.sql.execution.pythonUDF.arrow.enabled=false`), which is how the values of row UDFs travelled before.
"""

import argparse
import csv
import hashlib
import hmac
import json
import re
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psycopg import sql
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from benchmarks.peers import tables
from privacy_platform import settings
from privacy_platform.engine.session import prepare_environment, spark_config
from privacy_platform.warehouse.connection import Role, connect, database_name, database_url, login_of
from privacy_platform.warehouse.embedded import PORT, socket_directory
from privacy_platform.warehouse.release import STAGING

PACKAGES = (
    "org.postgresql:postgresql:42.7.4",
    "com.kohlschutter.junixsocket:junixsocket-common:2.10.1",
    "com.kohlschutter.junixsocket:junixsocket-native-common:2.10.1",
)
_FIELDS = (
    "user_id string, email string, first_name string, last_name string, age long, gender string, city string, "
    "state string, zip_code string, ip_address string, phone string, created_at timestamp, last_login timestamp, "
    "account_status string, subscription_tier string, lifetime_value double, total_purchases long"
)
_BUCKETS = ((18, "0-17"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64"))
Function = Callable[[Any], str | None]


def _pseudonyms() -> dict[str, tuple[str, Function]]:
    key, token_key, salt = (secrets.token_hex(32) for _ in range(3))

    def token(value: Any) -> str | None:
        return value and "tok_" + hmac.new(token_key.encode(), value.encode(), hashlib.sha256).hexdigest()[:32]

    def email(value: Any) -> str | None:
        return value and hmac.new(key.encode(), value.strip().lower().encode(), hashlib.sha256).hexdigest()

    def name(value: Any) -> str | None:
        return value and hashlib.sha256((salt + value.strip().lower()).encode()).hexdigest()

    return {
        "user_token": ("user_id", token),
        "email_hash": ("email", email),
        "first_name_hash": ("first_name", name),
        "last_name_hash": ("last_name", name),
    }


def functions(cities: Path) -> dict[str, tuple[str, Function]]:
    """Output column → (field, function of one value)."""
    with cities.open(encoding="utf-8", newline="") as file:
        regions = {row["city"].lower(): row["region"] for row in csv.DictReader(file)}

    def age(value: Any) -> str | None:
        if value is None or value < 0:
            return None
        return next((label for end, label in _BUCKETS if value < end), "65+")

    def region(value: Any) -> str | None:
        return value and regions.get(value.strip().lower(), "*")

    def postal(value: Any) -> str | None:
        return value and re.sub(r"[ -]", "", value.upper())[:3] + "**"

    def network(value: Any) -> str | None:
        if not value:
            return None
        return ":".join(value.split(":")[:3]) + "::" if ":" in value else ".".join(value.split(".")[:3]) + ".0"

    def phone(value: Any) -> str | None:
        return value and "***-***-" + re.sub(r"[^0-9]", "", re.sub(r"(?i)(?:x|ext|#).*$", "", value))[-4:]

    return {
        **_pseudonyms(),
        "age_bucket": ("age", age),
        "region": ("city", region),
        "zip_prefix": ("zip_code", postal),
        "ip_subnet": ("ip_address", network),
        "phone_suffix": ("phone", phone),
    }


def transformed(frame: DataFrame, made: dict[str, tuple[str, Function]]) -> DataFrame:
    """The published columns."""
    columns = {name: f.udf(function, "string")(f.col(field)) for name, (field, function) in made.items()}
    kept = ("gender", "state", "account_status", "subscription_tier", "lifetime_value", "total_purchases")
    days = {name: f.date_trunc("day", f.col(name)) for name in ("created_at", "last_login")}
    columns |= {name: f.col(name) for name in kept} | days | {"anonymized_at": f.current_timestamp()}
    return frame.select(*(column.alias(name) for name, column in columns.items()))


def session() -> SparkSession:
    """Our session's settings and the JDBC packages."""
    prepare_environment()
    # Otherwise a small file is one task here, and two of unequal size there.
    config = {**spark_config(), "spark.jars.packages": ",".join(PACKAGES), "spark.sql.files.openCostInBytes": "65536"}
    builder = SparkSession.builder
    for key, value in config.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def jdbc() -> tuple[str, dict[str, str]]:
    """The URL of the embedded server's unix socket, and the connection's properties."""
    login, password = login_of(database_url(Role.PIPELINE))
    socket = socket_directory(settings.home()) / f".s.PGSQL.{PORT}"
    factory = "org.newsclub.net.unix.AFUNIXSocketFactory$FactoryArg"
    url = f"jdbc:postgresql://localhost/{database_name()}?socketFactory={factory}&socketFactoryArg={socket}&sslMode=disable"
    return url, {"user": login, "password": password, "driver": "org.postgresql.Driver"}


def run(spark: SparkSession, file: Path, cities: Path, target: str, *, way: str) -> float:
    """Empty `staging.<target>` and load `file` into it; returns the seconds of the load."""
    spark.conf.set("spark.sql.execution.pythonUDF.arrow.enabled", str(way != "pickled").lower())
    with connect(Role.PIPELINE) as connection:
        connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(STAGING, target)))
    url, properties = jdbc()
    begin = time.perf_counter()
    frame = transformed(spark.read.schema(_FIELDS).json(str(file)), functions(cities))
    frame.write.jdbc(
        url, f"{STAGING}.{target}", mode="append",
        properties={**properties, "reWriteBatchedInserts": str(way == "rewritten").lower()},
    )  # fmt: skip
    return time.perf_counter() - begin


def measure(spark: SparkSession, options: argparse.Namespace) -> dict[str, list[float]]:
    """Warm up, then measure each way in turns: inserts in batches, rewritten batches, pickled rows.

    Raises:
        SystemExit: not every row has arrived.
    """
    with options.file.open("rb") as lines:
        expected = sum(1 for _ in lines)
    seconds: dict[str, list[float]] = {"insert": [], "rewritten": [], "pickled": []}
    for turn in range(options.runs + 1):
        for name, times in seconds.items():
            took = run(spark, options.file, options.cities, options.target, way=name)
            if (arrived := tables.count(options.target)) != expected:
                raise SystemExit(f"{arrived} of {expected} rows arrived: the time means nothing")
            times += [took] if turn else []
    return seconds


def main() -> None:
    """Warm up, measure each way in turns, print the seconds as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.row_udfs", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("cities", type=Path)
    parser.add_argument("target")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    spark = session()
    try:
        seconds = measure(spark, options)
    finally:
        spark.stop()
    sys.stdout.write(json.dumps(seconds) + "\n")


if __name__ == "__main__":
    main()
