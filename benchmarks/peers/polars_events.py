"""Polars' streaming engine, from the events' file to the columns of `anonymized_events`: scan, expressions, ADBC COPY.

As a script would be written, with `polars-hash` for the hashes. Differences, all in its favour: those of
`duckdb_events`. Person's own values are looked for by expressions and replaced row by row where they occur.
"""

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import polars_hash  # noqa: F401 - registers the `chash` namespace

from benchmarks.peers.texts import LEAST, OWN, PATTERNS, SUSPICIOUS, TEXTS
from privacy_platform.warehouse.connection import Role, adbc
from privacy_platform.warehouse.release import STAGING

__all__ = ["load", "transformed"]

BATCH_ROWS = 122_880
TYPES: dict[str, Any] = {
    "event_id": pl.String, "user_id": pl.String, "event_type": pl.String, "timestamp": pl.String,
    "page_url": pl.String, "referrer": pl.String, "device_type": pl.String, "browser": pl.String,
    "session_id": pl.String, "ip_address": pl.String, "search_query": pl.String, "product_id": pl.String,
    "quantity": pl.Int64, "price": pl.Float64, "video_id": pl.String, "duration_seconds": pl.Int64,
}  # fmt: skip
_JOINED = [name for name in OWN if name != "user_id"]


def load(file: Path, users: Path, target: str) -> None:
    """Load `file` into `staging.<target>`, streaming; see `duckdb_events.load`."""
    events = pl.scan_ndjson(file, schema=TYPES)
    people = pl.scan_ndjson(users, schema=dict.fromkeys(("user_id", *_JOINED), pl.String))
    batches = transformed(events, people).collect_batches(chunk_size=BATCH_ROWS, maintain_order=False)
    connection = adbc(Role.PIPELINE)
    try:
        with connection.cursor() as cursor:
            for batch in batches:
                cursor.adbc_ingest(target, batch.to_arrow(), mode="append", db_schema_name=STAGING)
        connection.commit()
    finally:
        connection.close()


def transformed(events: pl.LazyFrame, people: pl.LazyFrame) -> pl.LazyFrame:
    """The published columns, in the table's order."""
    token, key = secrets.token_hex(32), secrets.token_hex(32)
    address = pl.col("ip_address")
    columns = {
        "event_id": pl.col("event_id"),
        "user_token": pl.lit("tok_") + _hashed("user_id", token).str.head(32),
        "event_type": pl.col("event_type"),
        "timestamp": pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us")
        .dt.truncate("1s").dt.replace_time_zone("UTC"),
        "page_url": _scrubbed("page_url"),
        "referrer": _scrubbed("referrer"),
        "device_type": pl.col("device_type"),
        "browser": pl.col("browser"),
        "session_hash": _hashed("session_id", key),
        "ip_subnet": pl.when(address.str.contains(r"^(?:[0-9]{1,3}\.){3}[0-9]{1,3}$"))
        .then(address.str.strip_chars_end("0123456789") + "0")
        .otherwise(address.str.extract(r"^((?:[0-9a-f]{1,4}:){3})") + ":"),
        "search_query": _scrubbed("search_query"),
        "product_id": pl.col("product_id"),
        "quantity": pl.col("quantity"),
        "price": pl.col("price"),
        "video_id": pl.col("video_id"),
        "duration_seconds": pl.col("duration_seconds"),
        "anonymized_at": pl.lit(datetime(2026, 1, 1, tzinfo=UTC), dtype=pl.Datetime("us", "UTC")),
    }  # fmt: skip
    low = [pl.col(name).str.to_lowercase().alias(f"low_{name}") for name in TEXTS]
    own = [pl.col(name).str.to_lowercase().alias(f"own_{name}") for name in OWN]
    joined = events.join(people, on="user_id", how="left").with_columns(*low, *own)
    return joined.select(column.alias(name) for name, column in columns.items())


def _hashed(name: str, key: str) -> pl.Expr:
    return (pl.lit(key) + pl.col(name)).chash.sha2_256()  # type: ignore[attr-defined, no-any-return]


def _scrubbed(name: str) -> pl.Expr:
    text = pl.col(name)
    changed = text
    for pattern, replacement in PATTERNS:
        changed = changed.str.replace_all(pattern, replacement)
    text = pl.when(text.str.contains(SUSPICIOUS)).then(changed).otherwise(text)
    found = [pl.col(f"low_{name}").str.contains(pl.col(f"own_{own}"), literal=True) for own in OWN]
    fields = [pl.col(f"own_{own}") for own in OWN]
    rows = pl.struct(text.alias("text"), pl.any_horizontal(found).fill_null(False).alias("found"), *fields)
    return rows.map_batches(_replaced, return_dtype=pl.String, is_elementwise=True)


def _replaced(rows: pl.Series) -> pl.Series:
    frame = rows.struct.unnest()
    texts = frame["text"]
    hits = frame["found"].arg_true()
    if hits.is_empty():
        return texts
    return texts.scatter(hits, [_without(*row) for row in frame[hits].drop("found").rows()])


def _without(text: str, *values: str | None) -> str:
    for value, word in zip(values, OWN.values(), strict=True):
        if value and len(value) >= LEAST:
            text = re.sub(rf"(?i)(^|\W){re.escape(value)}($|\W)", rf"\1[{word}]\2", text)
    return text
