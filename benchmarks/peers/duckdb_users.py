"""DuckDB on the same file and to the same columns: its own JSON reader, SQL, Arrow batches out, ADBC COPY in.

Differences, all in its favour: `sha256(key || value)` where we compute HMAC-SHA256 (half the work, and not a keyed
hash to rely on); names are not brought to Unicode's NFC; only addresses as the generator writes them are understood
(ours parses every form of RFC 4291); rows that do not fit the schema would stop it instead of going to quarantine;
the target is a plain table and not a partition.
"""

import os
import secrets
from pathlib import Path

import duckdb

from benchmarks.peers import tables

BATCH_ROWS = 122_880
"""One of DuckDB's row groups."""
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_COLUMNS = {
    "user_id": "VARCHAR",
    "email": "VARCHAR",
    "first_name": "VARCHAR",
    "last_name": "VARCHAR",
    "age": "BIGINT",
    "gender": "VARCHAR",
    "city": "VARCHAR",
    "state": "VARCHAR",
    "zip_code": "VARCHAR",
    "ip_address": "VARCHAR",
    "phone": "VARCHAR",
    "created_at": "TIMESTAMP",
    "last_login": "TIMESTAMP",
    "account_status": "VARCHAR",
    "subscription_tier": "VARCHAR",
    "lifetime_value": "DOUBLE",
    "total_purchases": "BIGINT",
}
_QUERY = rf"""
SELECT
    'tok_' || left(sha256($token || user_id), 32) AS user_token,
    sha256($hmac || lower(trim(email))) AS email_hash,
    sha256($salt || lower(trim(first_name))) AS first_name_hash,
    sha256($salt || lower(trim(last_name))) AS last_name_hash,
    CASE WHEN age < 0 THEN NULL WHEN age < 18 THEN '0-17' WHEN age < 25 THEN '18-24' WHEN age < 35 THEN '25-34'
         WHEN age < 45 THEN '35-44' WHEN age < 55 THEN '45-54' WHEN age < 65 THEN '55-64'
         WHEN age >= 65 THEN '65+' END AS age_bucket,
    gender,
    CASE WHEN u.city IS NOT NULL THEN coalesce(h.region, '*') END AS region,
    state,
    CASE WHEN zip_code IS NULL THEN NULL
         WHEN regexp_matches(regexp_replace(upper(zip_code), '[ -]', '', 'g'), '^[0-9A-Z]{{5,}}$')
         THEN left(regexp_replace(upper(zip_code), '[ -]', '', 'g'), 3) || '**' ELSE '*****' END AS zip_prefix,
    CASE WHEN regexp_matches(ip_address, '^{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}$')
         THEN regexp_replace(ip_address, '[0-9]+$', '0')
         WHEN contains(ip_address, ':')
         THEN regexp_extract(ip_address, '^(?:[0-9a-f]{{1,4}}:){{3}}') || ':' END AS ip_subnet,
    CASE WHEN digits IS NULL THEN NULL WHEN length(digits) >= 7 THEN '***-***-' || right(digits, 4)
         ELSE '***-***-****' END AS phone_suffix,
    date_trunc('day', created_at) AS created_at,
    date_trunc('day', last_login) AS last_login,
    account_status, subscription_tier, lifetime_value, total_purchases,
    $at::TIMESTAMP AS anonymized_at
FROM (
    SELECT *, regexp_replace(regexp_replace(phone, '(?i)(?:x|ext|#).*$', ''), '[^0-9]', '', 'g') AS digits
    FROM read_json($file, format = 'newline_delimited', columns = {_COLUMNS!r})
) u
LEFT JOIN (SELECT lower(trim(city)) AS city, region FROM read_csv($cities, header = true)) h
    ON h.city = lower(trim(u.city))
"""


def load(file: Path, cities: Path, target: str, *, threads: int | None = None, memory: str = "2GB") -> None:
    """Load `file` into `staging.<target>`; the result streams, no more than some batches are in memory.

    Args:
        file: JSON lines of users.
        cities: the hierarchy's CSV.
        target: an empty table made by `tables.create`.
        threads: DuckDB's threads, all cores by default.
        memory: DuckDB's memory limit.
    """
    with duckdb.connect(config={"threads": threads or os.cpu_count() or 1, "memory_limit": memory}) as connection:
        connection.execute("SET preserve_insertion_order = false")
        relation = connection.sql(
            _QUERY,
            params={
                "file": str(file),
                "cities": str(cities),
                "token": secrets.token_hex(32),
                "hmac": secrets.token_hex(32),
                "salt": secrets.token_hex(32),
                "at": "2026-01-01 00:00:00",
            },
        )
        tables.copy(target, relation.to_arrow_reader(BATCH_ROWS))
