"""Opening sealed records: the keys of their subjects, and their fields in the policy's types.

A record whose subject has been erased has no key, or was sealed under an earlier one, and is left out.
"""

import io

import polars as pl

from privacy_platform.engine.land import sealing_keys
from privacy_platform.engine.sources.batch import TYPES
from privacy_platform.policy.model import DatasetPolicy, SourceType
from privacy_platform.vault.keyring import Keyring
from privacy_platform.vault.sealing import SealError, data_keys, key_heads, rekeyed, unseal

SALT, VERSION, KEY, HEAD = "__salt", "__version", "__key", "__head"


def with_keys(rows: pl.DataFrame, keyring: Keyring) -> pl.DataFrame:
    """The rows that have a salt, with the key derived from it, and its head, in the place of salt and version."""
    there = rows.filter(pl.col(SALT).is_not_null())
    keys = data_keys(there[SALT], there[VERSION], sealing_keys(keyring))
    return there.drop(SALT, VERSION).with_columns(keys.alias(KEY), key_heads(keys).alias(HEAD))


def alive(rows: pl.DataFrame, sealed: str) -> pl.DataFrame:
    """The rows whose sealed column is under their subject's present key, or null.

    A subject who was erased and landed again has a new key, under which the old records are noise.
    """
    return rows.filter(~rekeyed(rows[sealed], rows[HEAD]))


def unsealed(policy: DatasetPolicy, sealed: pl.Series, keys: pl.Series, records: pl.Series) -> pl.DataFrame:
    """The sealed fields of records in clear, in the policy's types.

    Args:
        policy: the dataset of the records.
        sealed: the sealed values.
        keys: the subjects' keys.
        records: the ids they were sealed under.

    Raises:
        SealError: one of them does not open.
    """
    temporal = (SourceType.TIMESTAMP, SourceType.DATE)
    types = {name: policy.fields[name].type for name in policy.sealed_fields()}
    schema = {name: pl.String() if kind in temporal else TYPES[kind] for name, kind in types.items()}
    values = unseal(sealed, keys, records, dataset=policy.dataset)
    if not values or not schema:
        return pl.DataFrame(schema={name: TYPES[kind] for name, kind in types.items()})
    frame = pl.read_ndjson(io.BytesIO(b"\n".join(values)), schema=schema)
    if frame.height != len(values):  # or people's values would be put beside each other's
        raise SealError(f"A sealed record of {policy.dataset} is not one JSON object: restore the table from backup.")
    return frame.with_columns(_temporal(name, kind) for name, kind in types.items() if kind in temporal)


def _temporal(name: str, kind: SourceType) -> pl.Expr:
    if kind is SourceType.DATE:
        return pl.col(name).str.to_date("%Y-%m-%d")
    return pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC")
