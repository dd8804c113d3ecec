"""Data subjects in the vault: the salt each subject's key is derived from, and their sealed identifier.

Rows are added the moment a subject is first seen, in a short transaction of their own: a row without records says
nothing about anybody, so a run that dies later leaves nothing to repair.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from privacy_platform.vault.sealing import data_keys, new_salts, seal

VAULT_DATASET = "vault.subjects"
_WANTED = "wanted_subject"
_NEW = "new_subject"


def subject_keys(
    connection: Any, subjects: pl.DataFrame, *, sealing_keys: Mapping[int, str], current: int
) -> pl.DataFrame:
    """The data keys of the given subjects, registering those the vault has not seen.

    Args:
        connection: an ADBC connection in manual-commit mode; every call commits its own transaction.
        subjects: columns `user_token` and `subject_id` (text), one row a subject.
        sealing_keys: the sealing key (hexadecimal) of every version of the keyring.
        current: the version that seals new subjects.

    Returns:
        Columns `user_token` and `data_key` (32 bytes), one row a subject.
    """
    with connection.cursor() as cursor:
        _load_temporary(cursor, _WANTED, subjects.select("user_token"))
        known = _fetch(
            cursor,
            f"SELECT s.user_token, s.salt, s.key_version FROM {_WANTED} w JOIN vault.subjects s USING (user_token)",
        )
        unseen = subjects.join(known, on="user_token", how="anti")
        if unseen.height:
            known = pl.concat([known, _register(cursor, unseen, sealing_keys=sealing_keys, current=current)])
        cursor.execute(f"DROP TABLE {_WANTED}")
    connection.commit()
    return known.select("user_token", data_keys(known["salt"], known["key_version"], sealing_keys).alias("data_key"))


def _register(cursor: Any, unseen: pl.DataFrame, *, sealing_keys: Mapping[int, str], current: int) -> pl.DataFrame:
    # Sorted, so that two tasks that meet the same new subjects wait for each other and never deadlock.
    new = unseen.sort("user_token").with_columns(
        new_salts(unseen.height).alias("salt"), pl.lit(current, dtype=pl.Int32).alias("key_version")
    )
    keys = data_keys(new["salt"], new["key_version"], sealing_keys)
    sealed_id = seal(new["subject_id"], keys, new["user_token"], dataset=VAULT_DATASET)
    _load_temporary(cursor, _NEW, new.select("user_token", "salt", sealed_id.alias("sealed_id"), "key_version"))
    cursor.execute(
        "INSERT INTO vault.subjects (user_token, salt, sealed_id, key_version) "
        f"SELECT user_token, salt, sealed_id, key_version FROM {_NEW} ORDER BY user_token ON CONFLICT DO NOTHING"
    )
    # What stands now is the truth: another task may have registered some of them a moment earlier.
    standing = _fetch(
        cursor,
        f"SELECT s.user_token, s.salt, s.key_version FROM {_NEW} n JOIN vault.subjects s USING (user_token)",
    )
    cursor.execute(f"DROP TABLE {_NEW}")
    return standing


def _load_temporary(cursor: Any, table: str, frame: pl.DataFrame) -> None:
    cursor.adbc_ingest(table, frame.to_arrow(), mode="create", temporary=True)


def _fetch(cursor: Any, query: str) -> pl.DataFrame:
    # A batch is small beside the vault, and the planner, knowing neither, would hash the whole vault for each.
    cursor.execute("SET LOCAL enable_hashjoin = off")
    cursor.execute("SET LOCAL enable_mergejoin = off")
    cursor.execute(query)
    table: pa.Table = cursor.fetch_arrow_table()
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table gives a frame; narrows the type
    return frame
