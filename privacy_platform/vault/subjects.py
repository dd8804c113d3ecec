"""Data subjects in the vault: the salt each subject's key is derived from, and their sealed identifier.

Rows are added the moment a subject is first seen, in a short transaction of their own: a row without records says
nothing about anybody, so a run that dies later leaves nothing to repair.
"""

import hmac
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from adbc_driver_manager import Error as AdbcError
from psycopg import Connection

from privacy_platform.vault.keyring import Keyring, KeyringError, Purpose, load_keyring
from privacy_platform.vault.sealing import data_keys, new_salts, seal, unseal

VAULT_DATASET = "vault.subjects"
_WANTED = "wanted_subject"
_NEW = "new_subject"


def subject_keys(
    connection: Any,
    subjects: pl.DataFrame,
    *,
    sealing_keys: Mapping[int, str],
    identity_key: str,
    current: int,
    all_new: bool = False,
) -> pl.DataFrame:
    """The data keys of the given subjects, registering those the vault has not seen.

    Args:
        connection: an ADBC connection in manual-commit mode; every call commits its own transaction.
        subjects: columns `user_token` and `subject_id` (text), one row a subject.
        sealing_keys: the sealing key (hexadecimal) of every version of the keyring.
        identity_key: the identity key (hexadecimal) of version `current`. It is not the subject's own: the salt stands
            in the same row, so both are there or gone together. Nonces are random: good for 2**32 subjects a version.
        current: the version that seals new subjects.
        all_new: a guess that none of them is known, as when the vault is empty: then they are not looked up first.

    Returns:
        Columns `user_token` and `data_key` (32 bytes), one row a subject.
    """
    try:
        if all_new:
            with connection.cursor() as cursor:
                known = _copy_new(cursor, _drawn(subjects, identity_key, current))
        else:
            known = _known_and_new(connection, subjects, identity_key, current, _copy_new)
    except AdbcError:
        # The guess was wrong, or another task has registered some of the same subjects meanwhile.
        connection.rollback()
        known = _known_and_new(connection, subjects, identity_key, current, _merge_new)
    connection.commit()
    return known.select("user_token", data_keys(known["salt"], known["key_version"], sealing_keys).alias("data_key"))


def subject_ids(connection: Connection, tokens: Sequence[str], keyring: Keyring) -> dict[str, str]:
    """The ids behind the given tokens; a token that the vault does not hold is left out.

    Args:
        connection: of a role that reads the vault.
        tokens: the tokens to reverse.
        keyring: the keyring that the vault was filled under.

    Raises:
        SealError: an id does not open: the row was altered, or the keyring is another one.
        KeyringError: the keyring lacks a version.
    """
    rows = connection.execute(
        "SELECT user_token, sealed_id, key_version FROM vault.subjects WHERE user_token = ANY(%s)", [list(tokens)]
    ).fetchall()
    schema = {"user_token": pl.String(), "sealed_id": pl.Binary(), "key_version": pl.Int32()}
    found = pl.DataFrame(rows, schema=schema, orient="row")
    versions = found["key_version"].unique().to_list()
    keys = {version: bytes.fromhex(keyring.secret(Purpose.IDENTITY, version)) for version in versions}
    opened = unseal(
        found["sealed_id"],
        found["key_version"].replace_strict(keys, return_dtype=pl.Binary),
        found["user_token"],
        dataset=VAULT_DATASET,
    )
    return {token: text.decode() for token, text in zip(found["user_token"], opened, strict=True)}


def check_keyring(connection: Connection, keyring: Keyring) -> None:
    """See that the keyring is the one this warehouse's tokens were made with; the first one seen is taken down.

    With another one every subject would get a new token beside the old: each person twice, and no check could tell.

    Raises:
        KeyringError: it is another one.
    """
    digest = _digest(keyring)
    connection.execute("INSERT INTO vault.keyring_check (digest) VALUES (%s) ON CONFLICT DO NOTHING", [digest])
    row = connection.execute("SELECT digest FROM vault.keyring_check").fetchone()
    connection.commit()
    if row is None or not hmac.compare_digest(bytes(row[0]), digest):
        raise KeyringError(
            "The keyring is not the one this warehouse was made with: put the right one back, or "
            "begin with an empty database."
        )


def worker_keyring(connection: Connection) -> Keyring:
    """The keyring of this worker, which may be another machine's than the driver's: checked as `check_keyring` does.

    Raises:
        KeyringError: it is another one than the warehouse was made with, or there is none.
    """
    keyring = load_keyring()
    row = connection.execute("SELECT digest FROM vault.keyring_check").fetchone()
    if row is None or not hmac.compare_digest(bytes(row[0]), _digest(keyring)):
        raise KeyringError(
            f"The keyring of a worker on {platform.node()} is not the one this warehouse was made with: give all "
            "workers the keyring of the driver."
        )
    return keyring


def _digest(keyring: Keyring) -> bytes:
    return hmac.digest(keyring.secret(Purpose.TOKEN).encode(), b"keyring check", "sha256")


def _known_and_new(
    connection: Any,
    subjects: pl.DataFrame,
    identity_key: str,
    current: int,
    register: Callable[[Any, pl.DataFrame], pl.DataFrame],
) -> pl.DataFrame:
    """`user_token`, `salt` and `key_version` of every subject, after registering the unseen ones."""
    with connection.cursor() as cursor:
        _load_temporary(cursor, _WANTED, subjects.select("user_token"))
        known = _fetch(
            cursor,
            f"SELECT s.user_token, s.salt, s.key_version FROM {_WANTED} w JOIN vault.subjects s USING (user_token)",
        )
        unseen = subjects.join(known, on="user_token", how="anti")
        if unseen.height:
            known = pl.concat([known, register(cursor, _drawn(unseen, identity_key, current))])
        cursor.execute(f"DROP TABLE {_WANTED}")
    return known


def _drawn(unseen: pl.DataFrame, identity_key: str, current: int) -> pl.DataFrame:
    """New rows of the vault, sorted, so that two tasks that meet the same subjects wait and never deadlock."""
    new = unseen.sort("user_token").with_columns(
        new_salts(unseen.height).alias("salt"), pl.lit(current, dtype=pl.Int32).alias("key_version")
    )
    keys = pl.repeat(bytes.fromhex(identity_key), new.height, dtype=pl.Binary, eager=True)
    sealed_id = seal(new["subject_id"], keys, new["user_token"], dataset=VAULT_DATASET)
    return new.select("user_token", "salt", sealed_id.alias("sealed_id"), "key_version")


def _copy_new(cursor: Any, new: pl.DataFrame) -> pl.DataFrame:
    """COPY straight into the vault, the fast way; fails when another task has been faster with one of them."""
    cursor.adbc_ingest("subjects", new.to_arrow(), mode="append", db_schema_name="vault")
    return new.select("user_token", "salt", "key_version")


def _merge_new(cursor: Any, new: pl.DataFrame) -> pl.DataFrame:
    """Insert those that are still missing; what stands afterwards is the truth, whoever has drawn its salt."""
    _load_temporary(cursor, _NEW, new)
    cursor.execute(
        "INSERT INTO vault.subjects (user_token, salt, sealed_id, key_version) "
        f"SELECT user_token, salt, sealed_id, key_version FROM {_NEW} ORDER BY user_token ON CONFLICT DO NOTHING"
    )
    standing = _fetch(
        cursor, f"SELECT s.user_token, s.salt, s.key_version FROM {_NEW} n JOIN vault.subjects s USING (user_token)"
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
