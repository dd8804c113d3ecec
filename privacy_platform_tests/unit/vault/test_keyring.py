"""The keyring: keys that are always the same, files nobody else may read, and secrets that never show."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest

from privacy_platform import settings
from privacy_platform.vault.keyring import (
    KEYRING_VARIABLE,
    Keyring,
    KeyringError,
    Purpose,
    ensure_keyring,
    keyring_path,
    load_keyring,
    new_keyring,
    save_keyring,
)

SECRET = base64.b64encode(bytes(range(32))).decode()
DOCUMENT = {"current": 1, "pinned": 1, "masters": {"1": {"secret": SECRET, "created_at": "2026-01-01T00:00:00Z"}}}
FIXED = Keyring.model_validate_json(json.dumps(DOCUMENT))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(KEYRING_VARIABLE, raising=False)
    return tmp_path / "home"


def hkdf(master: bytes, info: str) -> str:
    """HKDF-SHA256 (RFC 5869) with an empty salt and one block of output, written out."""
    extracted = hmac.digest(bytes(32), master, hashlib.sha256)
    return hmac.digest(extracted, info.encode() + b"\x01", hashlib.sha256).hex()


@pytest.mark.parametrize("purpose", list(Purpose))
def test_keys_are_derived_by_purpose_and_version(purpose: Purpose) -> None:
    expected = hkdf(bytes(range(32)), f"privacy-platform/{purpose.value}/v1")
    assert FIXED.secret(purpose) == FIXED.secret(purpose, 1) == expected


def test_purposes_and_masters_have_nothing_in_common() -> None:
    rings = [new_keyring(), new_keyring(), FIXED]
    assert len({ring.secret(purpose) for ring in rings for purpose in Purpose}) == len(rings) * len(Purpose)


def test_rotation_changes_the_sealing_key_and_nothing_else() -> None:
    rotated = FIXED.rotated().rotated()
    assert (rotated.current, rotated.pinned, sorted(rotated.masters)) == (3, 1, [1, 2, 3])
    assert rotated.secret(Purpose.TOKEN) == FIXED.secret(Purpose.TOKEN)
    assert rotated.secret(Purpose.HMAC) == FIXED.secret(Purpose.HMAC)
    assert rotated.secret(Purpose.SEALING) != FIXED.secret(Purpose.SEALING)
    assert rotated.secret(Purpose.SEALING, 1) == FIXED.secret(Purpose.SEALING)
    with pytest.raises(KeyringError, match="no version 4"):
        rotated.secret(Purpose.SEALING, 4)


def test_a_saved_keyring_comes_back_and_only_its_owner_can_read_it() -> None:
    ring = FIXED.rotated()
    path = save_keyring(ring)
    assert path == keyring_path()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert load_keyring() == ring
    assert [file.name for file in path.parent.iterdir()] == ["keyring.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_keyring_others_can_read_is_refused(mode: int) -> None:
    path = save_keyring(FIXED)
    path.chmod(mode)
    with pytest.raises(KeyringError, match="chmod 600"):
        load_keyring()


def test_a_keyring_is_never_overwritten_unasked() -> None:
    save_keyring(FIXED)
    with pytest.raises(KeyringError, match="keys rotate"):
        save_keyring(new_keyring())
    assert load_keyring() == FIXED
    rotated = FIXED.rotated()
    save_keyring(rotated, replace=True)
    assert load_keyring() == rotated


def test_replaced_keyrings_are_kept_and_not_for_ever() -> None:
    ring = FIXED
    path = save_keyring(ring)
    for _ in range(13):
        before, ring = path.read_bytes(), ring.rotated()
        save_keyring(ring, replace=True)
        kept = sorted(set(path.parent.iterdir()) - {path})
        assert kept[-1].read_bytes() == before
        assert {each.stat().st_mode & 0o777 for each in kept} == {0o600}
    assert len(kept) == 10
    assert load_keyring() == ring


def test_ensuring_creates_once() -> None:
    first = ensure_keyring()
    assert ensure_keyring() == first == load_keyring()


def test_without_a_keyring_the_mend_is_named() -> None:
    with pytest.raises(KeyringError, match="keys init"):
        load_keyring()


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    save_keyring(new_keyring())
    monkeypatch.setenv(KEYRING_VARIABLE, json.dumps(DOCUMENT))
    assert load_keyring() == ensure_keyring() == FIXED


def test_ensuring_with_the_environment_writes_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYRING_VARIABLE, json.dumps(DOCUMENT))
    ensure_keyring()
    assert not home.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"current": 2}, "whole"),
        ({"pinned": 0}, "pinned"),
        ({"masters": {}}, "whole"),
        ({"masters": {"1": {"secret": SECRET}}}, "masters.1.created_at"),
        ({"note": SECRET}, "note"),
    ],
)
def test_a_broken_keyring_is_named_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], named: str
) -> None:
    monkeypatch.setenv(KEYRING_VARIABLE, json.dumps(DOCUMENT | changes))
    with pytest.raises(KeyringError, match="restore it from backup") as caught:
        load_keyring()
    assert named in str(caught.value)
    assert KEYRING_VARIABLE in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("secret", ["short", base64.b64encode(bytes(31)).decode(), SECRET[:-4] + "!!!="])
def test_a_master_that_is_not_32_bytes_is_refused(secret: str) -> None:
    document = DOCUMENT | {"masters": {"1": {"secret": secret, "created_at": "2026-01-01T00:00:00Z"}}}
    ring = Keyring.model_validate_json(json.dumps(document))
    with pytest.raises(KeyringError, match="32 base64-encoded bytes") as caught:
        ring.secret(Purpose.TOKEN)
    assert secret not in str(caught.value)


def test_secrets_never_show() -> None:
    shown = f"{FIXED!r} {FIXED} {FIXED.masters[1]!r} {FIXED.model_dump()}"
    assert SECRET not in shown
    assert FIXED.secret(Purpose.TOKEN) not in shown
