"""Sealing: AES-256-GCM (NIST SP 800-38D) under a key that belongs to one data subject.

The data key is HMAC-SHA256(sealing key of the version, the subject's salt), derived for a whole batch at once; it is
stored nowhere. A sealed value is nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes), and its associated data names the
dataset and the record, so that a value moved to another record does not open.
"""

import os
from collections.abc import Mapping, Sequence

import polars as pl
import polars_hash  # noqa: F401 - registers the expression namespace `chash`
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy_platform.errors import PrivacyPlatformError

SALT_BYTES = 32
_NONCE_BYTES = 12


class SealError(PrivacyPlatformError):
    """A sealed value does not open under its subject's key and record."""


def new_salts(count: int) -> pl.Series:
    """`count` random salts of 32 bytes, drawn in one call."""
    noise = os.urandom(SALT_BYTES * count)
    salts = [noise[start : start + SALT_BYTES] for start in range(0, len(noise), SALT_BYTES)]
    return pl.Series("salt", salts, dtype=pl.Binary)


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
    key = pl.lit(None, dtype=pl.Binary)
    for version in frame["version"].drop_nulls().unique():
        if version not in sealing_keys:
            raise SealError(
                f"The keyring lacks version {version}, which sealed some records: restore the newer keyring."
            )
        derived = pl.col("salt").chash.hmac_sha256(key=sealing_keys[version]).str.decode("hex")  # type: ignore[attr-defined]
        key = pl.when(pl.col("version") == version).then(derived).otherwise(key)
    return frame.select(pl.when(pl.col("salt").is_null()).then(None).otherwise(key).alias("data_key")).to_series()


def _associated(dataset: str, record: str) -> bytes:
    return f"{dataset}\x1f{record}".encode()


def _ciphers(keys: Sequence[bytes]) -> dict[bytes, AESGCM]:
    return {key: AESGCM(key) for key in dict.fromkeys(keys)}


def seal(payloads: pl.Series, keys: pl.Series, records: pl.Series, *, dataset: str) -> pl.Series:
    """Seal each payload (text) under its key, bound to the dataset and its record's id."""
    key_list = keys.to_list()
    ciphers = _ciphers(key_list)
    noise = os.urandom(_NONCE_BYTES * len(key_list))
    nonces = (noise[start : start + _NONCE_BYTES] for start in range(0, len(noise), _NONCE_BYTES))
    sealed = [
        nonce + ciphers[key].encrypt(nonce, payload.encode(), _associated(dataset, record))
        for nonce, key, payload, record in zip(nonces, key_list, payloads.to_list(), records.to_list(), strict=True)
    ]
    return pl.Series("sealed", sealed, dtype=pl.Binary)


def unseal(sealed: pl.Series, keys: pl.Series, records: pl.Series, *, dataset: str) -> list[bytes]:
    """Open each sealed value.

    Raises:
        SealError: one of them was altered, moved to another record, or sealed under another key.
    """
    key_list = keys.to_list()
    ciphers = _ciphers(key_list)
    try:
        return [
            ciphers[key].decrypt(value[:_NONCE_BYTES], value[_NONCE_BYTES:], _associated(dataset, record))
            for value, key, record in zip(sealed.to_list(), key_list, records.to_list(), strict=True)
        ]
    except (InvalidTag, ValueError):  # ValueError: shorter than a nonce
        raise SealError(
            f"A sealed record of {dataset} does not open: it was altered, or the keyring is not the one that "
            "sealed it. Restore the keyring, or the table, from backup."
        ) from None
