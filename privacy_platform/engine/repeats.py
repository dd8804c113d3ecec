"""Records of a landing that share a key: found without looking for them in the staged table.

To group a large table by its keys takes as long as a third of landing it, for repeats that are rare. So every task
stages 64-bit digests of its keys beside its records, in buckets by their first bits, and the driver sorts a bucket at
a time: where no digest occurs twice, no key does. Only where one does, in the one landing in many that has repeats or
by chance, the table itself is grouped.
"""

import numpy as np
import polars as pl
import polars_hash  # noqa: F401 - registers the expression namespace `nchash`
from psycopg import Connection, sql

from privacy_platform.policy.compile import LANDING_ORDER
from privacy_platform.warehouse.release import STAGING, Release

# Of a billion records, a bucket is 125 MB.
_BUCKET_BITS = 6


def open_digests(connection: Connection, release: Release) -> None:
    """Create the staging table of a release's digests: temporary as all of staging, and not logged."""
    name = sql.Identifier(STAGING, release.digests)
    connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} (bucket smallint, digests bytea)").format(name))
    connection.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN digests SET STORAGE EXTERNAL").format(name))
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(release.mark)))
    connection.commit()


def digests_of(keys: pl.Series) -> pl.DataFrame:
    """Rows for the table of digests: those of a batch's keys (text), eight bytes each, by bucket."""
    hashed = keys.to_frame("key").select(pl.col("key").nchash.xxhash64()).to_series()  # type: ignore[attr-defined]
    digests = np.sort(hashed.to_numpy())
    buckets = (digests >> np.uint64(64 - _BUCKET_BITS)).astype(np.int16)
    found, starts = np.unique(buckets, return_index=True)
    pieces = [piece.tobytes() for piece in np.split(digests, starts[1:])] if len(digests) else []
    return pl.DataFrame(
        {"bucket": found, "digests": pieces}, schema={"bucket": pl.Int16, "digests": pl.Binary}, strict=False
    )


def drop_repeats(connection: Connection, release: Release, keep: str, *, digested: int | None = None) -> int:
    """Of the newly staged records that share a key, keep the one with the least or greatest landing order.

    Args:
        connection: as the pipeline role.
        release: the staged release.
        keep: `min` or `max`.
        digested: how many records' keys the tasks have digested, which tells whether there is anything to look for.

    Returns:
        How many records were dropped.
    """
    if digested is not None and not _may_repeat(connection, release, digested):
        return 0
    dropped = connection.execute(
        sql.SQL(
            "DELETE FROM {t} s USING (SELECT {k}, {keep}({o}) AS {o} FROM {t} GROUP BY {k} HAVING count(*) > 1) d "
            "WHERE s.{k} = d.{k} AND s.{o} <> d.{o}"
        ).format(
            t=sql.Identifier(STAGING, release.staging),
            k=sql.Identifier(release.table.key[0]),
            o=sql.Identifier(LANDING_ORDER),
            keep=sql.SQL(keep),
        )
    ).rowcount
    connection.commit()
    return dropped


def _may_repeat(connection: Connection, release: Release, records: int) -> bool:
    """Whether a digest occurs twice, or one is missing: then nothing is known of its record."""
    query = sql.SQL("SELECT digests FROM {} WHERE bucket = %s").format(sql.Identifier(STAGING, release.digests))
    seen, repeated = 0, False
    for bucket in range(2**_BUCKET_BITS):
        pieces = connection.execute(query, [bucket], binary=True).fetchall()
        digests = np.sort(np.frombuffer(b"".join(piece for (piece,) in pieces), dtype=np.uint64))
        seen += len(digests)
        repeated = bool((digests[1:] == digests[:-1]).any())
        if repeated:
            break
    connection.commit()
    return repeated or seen != records
