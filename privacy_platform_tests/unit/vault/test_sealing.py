"""Sealing: what was sealed opens under its own subject and record, and under nothing else."""

import hashlib
import hmac

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from privacy_platform.vault.sealing import SALT_BYTES, SealError, data_keys, key_heads, new_salts, rekeyed, seal, unseal

SEALING_KEYS = {1: "11" * 32, 2: "22" * 32}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ROWS = st.lists(st.tuples(TEXTS, TEXTS, st.integers(1, 2)), min_size=1, max_size=8)


def keys_for(versions: list[int]) -> pl.Series:
    return data_keys(new_salts(len(versions)), pl.Series(versions, dtype=pl.Int32), SEALING_KEYS)


def texts(values: list[str]) -> pl.Series:
    return pl.Series(values, dtype=pl.String)


@given(ROWS)
def test_what_was_sealed_opens(rows: list[tuple[str, str, int]]) -> None:
    payloads, records, versions = ([row[i] for row in rows] for i in range(3))
    keys = keys_for(versions)  # type: ignore[arg-type]
    sealed = seal(texts(payloads), keys, texts(records), dataset="d")  # type: ignore[arg-type]
    assert unseal(sealed, keys, texts(records), dataset="d") == [p.encode() for p in payloads]  # type: ignore[arg-type, union-attr]
    assert [len(s) - len(p.encode()) for s, p in zip(sealed, payloads, strict=True)] == [33] * len(rows)  # type: ignore[union-attr]


@given(TEXTS, st.data())
def test_a_changed_bit_or_a_cut_is_found(payload: str, data: st.DataObject) -> None:
    keys, record = keys_for([1]), texts(["r"])
    (value,) = seal(texts([payload]), keys, record, dataset="d")
    position = data.draw(st.integers(0, len(value) - 1))
    flipped = bytearray(value)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    for broken in (bytes(flipped), value[:position], value + b"\0", b""):
        with pytest.raises(SealError, match="does not open"):
            unseal(pl.Series([broken], dtype=pl.Binary), keys, record, dataset="d")


@given(TEXTS, TEXTS)
def test_a_value_belongs_to_its_record_dataset_and_subject(record: str, other: str) -> None:
    assume(record != other)
    keys = keys_for([1])
    sealed = seal(texts(["secret"]), keys, texts([record]), dataset="d")
    for key, where, dataset in (
        (keys, other, "d"),
        (keys, record, "e"),
        (keys_for([1]), record, "d"),
    ):
        with pytest.raises(SealError) as caught:
            unseal(sealed, key, texts([where]), dataset=dataset)
        assert "secret" not in str(caught.value)


@given(TEXTS, st.data())
def test_a_value_under_an_earlier_key_is_told_from_an_altered_one(payload: str, data: st.DataObject) -> None:
    keys, others, record = keys_for([1]), keys_for([1]), texts(["r"])
    sealed = seal(texts([payload]), keys, record, dataset="d")
    assert rekeyed(sealed, key_heads(others)).to_list() == [True]
    assert rekeyed(sealed, key_heads(keys)).to_list() == [False]
    (value,) = sealed
    flipped = bytearray(value)
    # All but the key check itself: it is what tells.
    position = data.draw(st.sampled_from([0, *range(5, len(value))]))
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    for broken in (bytes(flipped), value[: min(position, 32)]):
        altered = pl.Series([broken], dtype=pl.Binary)
        assert rekeyed(altered, key_heads(keys)).to_list() == [False]
        with pytest.raises(SealError, match="does not open"):
            unseal(altered, keys, record, dataset="d")


def test_what_is_missing_was_not_sealed_under_another_key() -> None:
    none = pl.Series([None], dtype=pl.Binary)
    assert rekeyed(none, key_heads(keys_for([1]))).to_list() == [False]
    assert rekeyed(seal(texts(["x"]), keys_for([1]), texts(["r"]), dataset="d"), key_heads(none)).to_list() == [False]


def test_one_bad_value_among_good_ones_fails_the_batch() -> None:
    keys, records = keys_for([1, 1, 1]), texts(["a", "b", "c"])
    sealed = seal(texts(["x", "y", "z"]), keys, records, dataset="d")
    with pytest.raises(SealError):
        unseal(sealed, keys, texts(["a", "c", "b"]), dataset="d")


def test_equal_payloads_are_sealed_differently() -> None:
    key = keys_for([1])[0]
    keys = pl.Series([key] * 50, dtype=pl.Binary)
    sealed = seal(texts(["same"] * 50), keys, texts(["r"] * 50), dataset="d")
    assert sealed.n_unique() == 50
    assert pl.Series([value[5:17] for value in sealed], dtype=pl.Binary).n_unique() == 50


def test_the_data_key_is_an_hmac_of_the_salt() -> None:
    salts = new_salts(2)
    keys = data_keys(salts, pl.Series([1, 2], dtype=pl.Int32), SEALING_KEYS)
    expected = [
        hmac.digest(SEALING_KEYS[version].encode(), salt, hashlib.sha256)
        for version, salt in zip((1, 2), salts, strict=True)
    ]
    assert keys.to_list() == expected


def test_an_erased_subject_has_no_key() -> None:
    salts = pl.Series([new_salts(1)[0], None], dtype=pl.Binary)
    for versions in ([1, None], [1, 1]):
        keys = data_keys(salts, pl.Series(versions, dtype=pl.Int32), SEALING_KEYS)
        assert keys.is_null().to_list() == [False, True]


def test_a_version_that_is_not_in_the_keyring_is_named() -> None:
    with pytest.raises(SealError, match="lacks version 3"):
        data_keys(new_salts(1), pl.Series([3], dtype=pl.Int32), SEALING_KEYS)


def test_salts_are_random_and_long() -> None:
    salts = new_salts(1000)
    assert salts.n_unique() == 1000
    assert set(salts.bin.size().to_list()) == {SALT_BYTES}
    assert new_salts(0).to_list() == []


def test_nothing_is_sealed_from_nothing() -> None:
    none = pl.Series([], dtype=pl.Binary)
    assert data_keys(none, pl.Series([], dtype=pl.Int32), SEALING_KEYS).to_list() == []
    assert seal(texts([]), none, texts([]), dataset="d").to_list() == []
    assert unseal(none, none, texts([]), dataset="d") == []
