"""DuckDB, from the events' file to the columns of `anonymized_events`: its own JSON reader, SQL, Arrow, ADBC COPY.

It joins the users' file for the values that texts are scrubbed of. Differences, all in its favour: those of
`duckdb_users` and `texts`; nobody is left out whom k-anonymity suppresses; one plain table, no partitions.
"""

import os
import secrets
from pathlib import Path

import duckdb

from benchmarks.peers import tables
from benchmarks.peers.duckdb_users import BATCH_ROWS
from benchmarks.peers.texts import LEAST, OWN, PATTERNS, SUSPICIOUS, TEXTS

__all__ = ["EVENT_COLUMNS", "load", "published"]

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
EVENT_COLUMNS = {
    "event_id": "VARCHAR",
    "user_id": "VARCHAR",
    "event_type": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "page_url": "VARCHAR",
    "referrer": "VARCHAR",
    "device_type": "VARCHAR",
    "browser": "VARCHAR",
    "session_id": "VARCHAR",
    "ip_address": "VARCHAR",
    "search_query": "VARCHAR",
    "product_id": "VARCHAR",
    "quantity": "BIGINT",
    "price": "DOUBLE",
    "video_id": "VARCHAR",
    "duration_seconds": "BIGINT",
}


def _scrubbed(name: str) -> str:
    """SQL of a text without what is personal in it."""
    text = name
    for pattern, replacement in PATTERNS:
        text = f"regexp_replace({text}, '{pattern.replace(chr(39), chr(39) * 2)}', '{replacement}', 'g')"
    text = f"CASE WHEN regexp_matches({name}, '{SUSPICIOUS}') THEN {text} ELSE {name} END"
    own = text
    for field, word in OWN.items():
        own = f"replaced({own}, low_{name}, coalesce(low_{field}, ''), '[{word}]')"
    found = " OR ".join(f"contains(low_{name}, low_{field})" for field in OWN)
    return f"CASE WHEN {found} THEN {own} ELSE {text} END"


_MACRO = rf"""
CREATE TEMP MACRO replaced(text, low, value, word) AS
    CASE WHEN length(value) >= {LEAST} AND contains(low, value)
         THEN regexp_replace(text, '(?i)(^|[^\w])' || regexp_escape(value) || '($|[^\w])', '\1' || word || '\2', 'g')
         ELSE text END
"""
_QUERY = f"""
SELECT
    event_id,
    'tok_' || left(sha256($token || user_id), 32) AS user_token,
    event_type,
    date_trunc('second', timestamp) AS timestamp,
    {_scrubbed("page_url")} AS page_url,
    {_scrubbed("referrer")} AS referrer,
    device_type, browser,
    sha256($hmac || session_id) AS session_hash,
    CASE WHEN regexp_matches(ip_address, '^{_OCTET}\\.{_OCTET}\\.{_OCTET}\\.{_OCTET}$')
         THEN regexp_replace(ip_address, '[0-9]+$', '0')
         WHEN contains(ip_address, ':')
         THEN regexp_extract(ip_address, '^(?:[0-9a-f]{{1,4}}:){{3}}') || ':' END AS ip_subnet,
    {_scrubbed("search_query")} AS search_query,
    product_id, quantity, price, video_id, duration_seconds,
    $at::TIMESTAMP AS anonymized_at
FROM (
    SELECT e.*, {", ".join(f"lower({text}) AS low_{text}" for text in TEXTS)}, lower(user_id) AS low_user_id, u.*
    FROM read_json($file, format = 'newline_delimited', columns = {EVENT_COLUMNS!r}) e
    LEFT JOIN (
        SELECT user_id AS user, {", ".join(f"lower({own}) AS low_{own}" for own in OWN if own != "user_id")}
        FROM read_json($users, format = 'newline_delimited',
                       columns = {dict.fromkeys(("user_id", *(o for o in OWN if o != "user_id")), "VARCHAR")!r})
    ) u ON u.user = e.user_id
)
"""


def load(file: Path, users: Path, target: str, *, threads: int | None = None, memory: str = "3GB") -> None:
    """Load `file` into `staging.<target>`; the result streams, no more than some batches are in memory.

    Args:
        file: JSON lines of events.
        users: JSON lines of the users who caused them.
        target: an empty table made by `tables.create`.
        threads: DuckDB's threads, all cores by default.
        memory: DuckDB's memory limit.
    """
    with duckdb.connect(config={"threads": threads or os.cpu_count() or 1, "memory_limit": memory}) as connection:
        connection.execute("SET preserve_insertion_order = false")
        tables.copy(target, published(connection, file, users).to_arrow_reader(BATCH_ROWS))


def published(connection: duckdb.DuckDBPyConnection, file: Path, users: Path) -> duckdb.DuckDBPyRelation:
    """The published columns, in the table's order; nothing is computed yet."""
    connection.execute(_MACRO)
    return connection.sql(
        _QUERY,
        params={
            "file": str(file),
            "users": str(users),
            "token": secrets.token_hex(32),
            "hmac": secrets.token_hex(32),
            "at": "2026-01-01 00:00:00",
        },
    )
