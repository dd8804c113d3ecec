"""Digests of keys: no repeat is overlooked, however the keys lie in batches."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from privacy_platform.engine.repeats import digests_of

_KEYS = st.lists(st.lists(st.text(min_size=1, max_size=12), max_size=30), max_size=5)


def _by_bucket(batches: list[list[str]]) -> dict[int, np.ndarray]:
    staged = pl.concat([digests_of(pl.Series(batch, dtype=pl.String)) for batch in batches] or [digests_of(_none())])
    found: dict[int, list[bytes]] = {}
    for bucket, digests in staged.iter_rows():
        found.setdefault(bucket, []).append(digests)
    return {bucket: np.frombuffer(b"".join(pieces), dtype=np.uint64) for bucket, pieces in found.items()}


def _none() -> pl.Series:
    return pl.Series([], dtype=pl.String)


@given(_KEYS)
def test_a_key_twice_is_a_digest_twice_in_one_bucket(batches: list[list[str]]) -> None:
    keys = [key for batch in batches for key in batch]
    found = _by_bucket(batches)
    assert sum(map(len, found.values())) == len(keys)
    repeated = any(len(np.unique(digests)) < len(digests) for digests in found.values())
    assert repeated == (len(set(keys)) < len(keys))


def test_digests_are_the_same_in_every_process_and_spread_over_the_buckets() -> None:
    keys = pl.Series([f"evt_{number:016x}" for number in range(10_000)])
    staged = digests_of(keys)
    assert staged.schema == {"bucket": pl.Int16, "digests": pl.Binary}
    assert staged.height == 64
    assert (staged["digests"].bin.size() < 8 * 2 * 10_000 // 64).all()
    first = np.frombuffer(staged["digests"][0], dtype=np.uint64)
    assert (first >> np.uint64(58) == staged["bucket"][0]).all()
    assert digests_of(keys.reverse()).equals(staged)


def test_of_no_keys_there_is_no_row() -> None:
    assert digests_of(_none()).is_empty()
