"""The vault: one salt a subject whoever comes first, and no key for one whose row is gone."""

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import polars as pl
import pytest

from privacy_platform.vault.keyring import KEYRING_VARIABLE, KeyringError, ensure_keyring, new_keyring
from privacy_platform.vault.sealing import SealError, seal, unseal
from privacy_platform.vault.subjects import VAULT_DATASET, check_keyring, subject_keys, worker_keyring
from privacy_platform.warehouse.connection import Role, adbc, connect

pytestmark = pytest.mark.usefixtures("warehouse")
IDENTITY = "1d" * 32
SEALING = {1: "a1" * 32, 2: "b2" * 32}


def subjects(prefix: str, count: int) -> pl.DataFrame:
    ids = [f"{prefix}-{number}" for number in range(count)]
    tokens = ["tok_" + hashlib.sha256(each.encode()).hexdigest()[:32] for each in ids]
    return pl.DataFrame(
        {"user_token": tokens, "subject_id": ids}, schema={"user_token": pl.String, "subject_id": pl.String}
    )


def stored(frame: pl.DataFrame) -> pl.DataFrame:
    with connect(Role.COMPLIANCE) as connection:
        rows = connection.execute(
            "SELECT user_token, salt, sealed_id, key_version FROM vault.subjects WHERE user_token = ANY(%s)",
            [frame["user_token"].to_list()],
        ).fetchall()
    schema = {"user_token": pl.String, "salt": pl.Binary, "sealed_id": pl.Binary, "key_version": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def keys_of(connection: Any, frame: pl.DataFrame, current: int = 1) -> dict[str, bytes]:
    found = subject_keys(connection, frame, sealing_keys=SEALING, identity_key=IDENTITY, current=current)
    assert found.columns == ["user_token", "data_key"]
    assert sorted(found["user_token"]) == sorted(frame["user_token"])
    return dict(found.rows())


@pytest.fixture
def vault() -> Iterator[Any]:
    with closing(adbc(Role.PIPELINE)) as connection:
        yield connection


def test_a_worker_with_another_keyring_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = ensure_keyring()
    with connect(Role.PIPELINE) as connection:
        check_keyring(connection, keyring)
        assert worker_keyring(connection) == keyring
        monkeypatch.setenv(KEYRING_VARIABLE, new_keyring().model_dump_json())
        with pytest.raises(KeyringError, match=r"keyring of a worker on .* give all workers the keyring of the driver"):
            worker_keyring(connection)


def test_a_subject_keeps_its_key(vault: Any) -> None:
    first = keys_of(vault, subjects("keep", 5))
    assert len(set(first.values())) == 5
    again = keys_of(vault, subjects("keep", 8), current=2)
    assert {token: again[token] for token in first} == first
    rows = stored(subjects("keep", 8))
    assert sorted(rows["key_version"]) == [1] * 5 + [2] * 3
    for token, salt, _, version in rows.rows():
        assert again[token] == hmac.digest(SEALING[version].encode(), salt, hashlib.sha256)


def test_the_vault_reverses_a_token_until_its_row_is_gone(vault: Any) -> None:
    frame = subjects("erase", 2)
    before = keys_of(vault, frame)
    rows = stored(frame)
    keys = pl.Series([bytes.fromhex(IDENTITY)] * rows.height)
    opened = unseal(rows["sealed_id"], keys, rows["user_token"], dataset=VAULT_DATASET)
    named = dict(zip(rows["user_token"], opened, strict=True))
    assert named == {token: each.encode() for token, each in frame.rows()}
    assert "erase-" not in str(rows.rows())
    gone = frame["user_token"][0]
    with connect(Role.ADMIN) as connection:
        connection.execute("DELETE FROM vault.subjects WHERE user_token = %s", [gone])
    # The subject comes back as another one: what was sealed before stays closed.
    after = keys_of(vault, frame)
    assert after[gone] != before[gone]
    assert after[frame["user_token"][1]] == before[frame["user_token"][1]]
    sealed = seal(pl.Series(["x"]), pl.Series([before[gone]]), pl.Series(["r"]), dataset="d")
    with pytest.raises(SealError):
        unseal(sealed, pl.Series([after[gone]]), pl.Series(["r"]), dataset="d")


def test_tasks_that_meet_the_same_new_subjects_agree() -> None:
    frame = subjects("race", 400)
    ready = threading.Barrier(4)
    found: list[dict[str, bytes]] = []
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            with closing(adbc(Role.PIPELINE)) as connection:
                part = frame.sample(fraction=1.0, shuffle=True, seed=seed)
                ready.wait(20)
                found.append(keys_of(connection, part))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(found) == 4
    assert all(each == found[0] for each in found)
    assert stored(frame).height == 400


def test_registering_is_a_transaction_of_its_own(vault: Any) -> None:
    frame = subjects("own", 3)
    keys_of(vault, frame)
    vault.rollback()
    assert stored(frame).height == 3


def test_nobody_is_registered_from_nothing(vault: Any) -> None:
    assert keys_of(vault, subjects("none", 0)) == {}
