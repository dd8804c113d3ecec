"""Sealing: AES-256-GCM (NIST SP 800-38D) under a key that belongs to one data subject.

The data key is HMAC-SHA256(sealing key of the version, the subject's salt), derived for a whole batch at once; it is
stored nowhere. A sealed value is head ‖ nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes), its head is format (1 byte) ‖
key check (4 bytes), and its associated data is the head and the names of dataset and record, so that a value moved to
another record does not open.

The key check is a digest of the data key. It tells a value whose subject was erased and came back, with a new salt and
so a new key, from one that was altered: the first is noise by design, the second an alarm.
"""

import os
from collections.abc import Iterator, Mapping

import polars as pl
import polars_hash  # noqa: F401 - registers the expression namespace `chash`
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy_platform.errors import PrivacyPlatformError

SALT_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = b"\x01"
_CHECK_BYTES = 4
_HEAD_BYTES = len(_FORMAT) + _CHECK_BYTES
_LEAST_BYTES = _HEAD_BYTES + _NONCE_BYTES + 16
_REPEATS_THAT_PAY = 4
# A cipher takes twice as long to make as to use, and some kilobytes to keep.
_USES_THAT_PAY = 1.5
# Ciphers take Python objects. Those of so few records stay in the processor's cache and in memory that Python has: with
# a whole batch at once, sealing takes half as long again.
_PART_ROWS = 4096


class SealError(PrivacyPlatformError):
    """A sealed value does not open under its subject's key and record."""


def new_salts(count: int) -> pl.Series:
    """`count` random salts of 32 bytes, drawn in one call."""
    return _cut(os.urandom(SALT_BYTES * count), SALT_BYTES).alias("salt")


def _cut(data: bytes, width: int) -> pl.Series:
    """Bytes as a series of values of the given width, without a Python object for each."""
    values = pa.Array.from_buffers(pa.binary(width), len(data) // width, [None, pa.py_buffer(data)])
    return pl.Series(pl.from_arrow(values), dtype=pl.Binary)


def _decoded(digests: pl.Series, digits: int) -> pl.Series:
    """The bytes of hexadecimal texts of equal length; several times as fast as `str.decode`."""
    if digests.null_count():
        return digests.str.decode("hex")
    return _cut(bytes.fromhex(digests.str.join("").item()), digits // 2)


def data_keys(salts: pl.Series, versions: pl.Series, sealing_keys: Mapping[int, str]) -> pl.Series:
    """The subjects' data keys (32 bytes), null where the salt is null, which is where a subject was erased.

    Args:
        salts: the subjects' salts (binary).
        versions: the version of the sealing key of each subject (integer).
        sealing_keys: the sealing key of every version that occurs, in hexadecimal.
    """
    if versions.is_empty():
        return pl.Series("data_key", [], dtype=pl.Binary)
    frame = pl.DataFrame({"salt": salts, "version": versions})
    key = pl.lit(None, dtype=pl.String)
    for version in frame["version"].drop_nulls().unique():
        if version not in sealing_keys:
            raise SealError(
                f"The keyring lacks version {version}, which sealed some records: restore the newer keyring."
            )
        derived = pl.col("salt").chash.hmac_sha256(key=sealing_keys[version])  # type: ignore[attr-defined]
        key = pl.when(pl.col("version") == version).then(derived).otherwise(key)
    digests = frame.select(pl.when(pl.col("salt").is_not_null()).then(key)).to_series()
    return _decoded(digests, 64).alias("data_key")


def seal(payloads: pl.Series, keys: pl.Series, records: pl.Series, *, dataset: str) -> pl.Series:
    """Seal each payload (text) under its key, bound to the dataset and its record's id."""
    parts = [_seal(*part, dataset) for part in _parts(payloads.cast(pl.Binary), keys, records)]
    return pl.concat(parts).alias("sealed")


def _parts(values: pl.Series, keys: pl.Series, records: pl.Series) -> Iterator[tuple[pl.Series, pl.Series, pl.Series]]:
    """The columns some thousand rows at a time, and once if they are empty."""
    for start in range(0, len(values) or 1, _PART_ROWS):
        yield values.slice(start, _PART_ROWS), keys.slice(start, _PART_ROWS), records.slice(start, _PART_ROWS)


def _seal(payloads: pl.Series, keys: pl.Series, records: pl.Series, dataset: str) -> pl.Series:
    heads, nonces = key_heads(keys), _cut(os.urandom(_NONCE_BYTES * len(keys)), _NONCE_BYTES)
    texts, associated = payloads.to_list(), _associated(heads, records, dataset)
    sealed = map(AESGCM.encrypt, _ciphers(keys), nonces.to_list(), texts, associated)
    return heads + nonces + pl.Series(list(sealed), dtype=pl.Binary)


def rekeyed(sealed: pl.Series, heads: pl.Series) -> pl.Series:
    """Where a value is whole but was sealed under another key than the one of `heads`: its subject was erased since.

    False where either is null. One altered value in 2**32 could pass for such a one; who alters the key check itself
    can make it, as who can write the table could delete the record.
    """
    value = pl.col("sealed").bin
    whole = (value.head(len(_FORMAT)) == _FORMAT) & (value.size() >= _LEAST_BYTES)
    differs = value.head(_HEAD_BYTES) != pl.col("head")
    values = pl.DataFrame({"sealed": sealed, "head": heads})
    return values.select((whole & differs).fill_null(False).alias("rekeyed")).to_series()


def key_heads(keys: pl.Series) -> pl.Series:
    """What every value sealed under each key begins with: format and key check; null where the key is null."""
    distinct = keys.unique()
    if len(distinct) * _REPEATS_THAT_PAY <= len(keys):
        return keys.replace_strict(distinct, key_heads(distinct), return_dtype=pl.Binary) if len(keys) else keys
    digest = pl.col("key").chash.hmac_sha256(key="privacy-platform/key check")  # type: ignore[attr-defined]
    head = pl.lit(_FORMAT.hex()) + digest.str.head(2 * _CHECK_BYTES)
    digits = keys.to_frame("key").select(head).to_series()
    return _decoded(digits, 2 * _HEAD_BYTES)


def unseal(sealed: pl.Series, keys: pl.Series, records: pl.Series, *, dataset: str) -> list[bytes]:
    """Open each sealed value.

    Raises:
        SealError: one of them was altered, moved to another record, or sealed under another key.
    """
    try:
        return [text for part in _parts(sealed, keys, records) for text in _unseal(*part, dataset)]
    except (InvalidTag, ValueError):  # ValueError: shorter than a nonce
        raise SealError(
            f"A sealed record of {dataset} does not open: it was altered, or the keyring is not the one that "
            "sealed it. Restore the keyring, or the table, from backup."
        ) from None


def _unseal(sealed: pl.Series, keys: pl.Series, records: pl.Series, dataset: str) -> Iterator[bytes]:
    heads = sealed.bin.head(_HEAD_BYTES)
    nonces = sealed.bin.slice(_HEAD_BYTES, _NONCE_BYTES).to_list()
    texts = sealed.bin.slice(_HEAD_BYTES + _NONCE_BYTES).to_list()
    if not heads.bin.starts_with(_FORMAT).all():
        raise InvalidTag
    return map(AESGCM.decrypt, _ciphers(keys), nonces, texts, _associated(heads, records, dataset))


def _associated(heads: pl.Series, records: pl.Series, dataset: str) -> list[bytes]:
    """The associated data of each record: the value's head, the dataset, and the record's id."""
    return (heads + (f"{dataset}\x1f" + records.cast(pl.String)).cast(pl.Binary)).to_list()


def _ciphers(keys: pl.Series) -> Iterator[AESGCM]:
    """A cipher for each row; made once for each key where keys repeat enough to pay for looking them up."""
    values = keys.to_list()
    distinct = set(values)
    if len(distinct) * _USES_THAT_PAY > len(values):
        return map(AESGCM, values)
    ready = {key: AESGCM(key) for key in distinct}
    return map(ready.__getitem__, values)
