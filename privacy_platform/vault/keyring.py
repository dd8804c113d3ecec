"""The keyring: versioned master secrets, and the keys derived from them by purpose.

Keys are derived with HKDF-SHA256 (RFC 5869) so that one secret per version has to be kept. The keyring is read
where it is used, in the driver and in every worker; key material never travels in a Spark plan, a run's
configuration or a log. Losing the keyring loses every sealed record and every token for good.
"""

import base64
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretBytes,
    ValidationError,
    field_serializer,
    model_validator,
)

from privacy_platform import settings
from privacy_platform.errors import PrivacyPlatformError

KEYRING_VARIABLE = "PRIVACY_PLATFORM_KEYRING"
_MASTER_BYTES = 32
_BACKUPS = 10


class KeyringError(PrivacyPlatformError):
    """The keyring is missing, unreadable, readable by others, or lacks a version."""


class Purpose(StrEnum):
    """What a derived key is for; keys of different purposes are independent."""

    TOKEN = "token"  # noqa: S105 - the name of a purpose, not a secret
    HMAC = "hmac"
    SEALING = "sealing"
    IDENTITY = "identity"


class MasterSecret(BaseModel):
    """One version's master secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: SecretBytes
    created_at: datetime

    @field_serializer("secret", when_used="json")
    def _reveal(self, secret: SecretBytes) -> str:
        return secret.get_secret_value().decode("ascii")

    def key(self) -> bytes:
        """The decoded secret, 32 bytes.

        Raises:
            KeyringError: it is not 32 base64-encoded bytes.
        """
        try:
            decoded = base64.b64decode(self.secret.get_secret_value(), validate=True)
        except ValueError:
            decoded = b""
        if len(decoded) != _MASTER_BYTES:
            raise KeyringError("A master secret of the keyring is not 32 base64-encoded bytes: restore it from backup.")
        return decoded


class Keyring(BaseModel):
    """All versions of the master secret.

    `current` seals new data subjects; `pinned` is the version that tokens and keyed hashes are made with, so that
    rotating the sealing key keeps every join.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    current: int = Field(ge=1)
    pinned: int = Field(ge=1)
    masters: Mapping[int, MasterSecret]

    @model_validator(mode="after")
    def _versions_exist(self) -> Self:
        missing = {self.current, self.pinned} - set(self.masters)
        if missing:
            raise ValueError(f"version {min(missing)} is named but not in the keyring")
        return self

    def secret(self, purpose: Purpose, version: int | None = None) -> str:
        """The key for `purpose` as 64 hexadecimal digits (HKDF-SHA256, RFC 5869).

        Args:
            purpose: what the key is for.
            version: the master's version; by default `current` for what is sealed and `pinned` for all others.

        Raises:
            KeyringError: the keyring has no such version.
        """
        if version is None:
            version = self.current if purpose in (Purpose.SEALING, Purpose.IDENTITY) else self.pinned
        master = self.masters.get(version)
        if master is None:
            raise KeyringError(
                f"The keyring has no version {version}, which sealed some of the data: restore the newer keyring file."
            )
        info = f"privacy-platform/{purpose}/v{version}".encode()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master.key()).hex()

    def rotated(self) -> "Keyring":
        """A keyring with one version more, which seals data subjects seen from now on."""
        version = max(self.masters) + 1
        return Keyring(current=version, pinned=self.pinned, masters={**self.masters, version: _new_master()})


def _new_master() -> MasterSecret:
    secret = base64.b64encode(secrets.token_bytes(_MASTER_BYTES))
    return MasterSecret(secret=SecretBytes(secret), created_at=datetime.now(UTC))


def new_keyring() -> Keyring:
    """A keyring of one random version."""
    return Keyring(current=1, pinned=1, masters={1: _new_master()})


def keyring_path() -> Path:
    """The keyring's file in the state directory."""
    return settings.home() / "secrets" / "keyring.json"


def load_keyring() -> Keyring:
    """The keyring, from the variable `PRIVACY_PLATFORM_KEYRING` (its JSON) or from its file.

    Raises:
        KeyringError: there is none, it is not valid, or others than its owner may read the file.
    """
    configured = os.environ.get(KEYRING_VARIABLE)
    if configured:
        return _parse(configured, f"the variable {KEYRING_VARIABLE}")
    path = keyring_path()
    if not path.is_file():
        raise KeyringError(f"There is no keyring at {path}: run `privacy-platform keys init`, or restore your backup.")
    if path.stat().st_mode & 0o077:
        raise KeyringError(f"The keyring {path} is readable by others: run `chmod 600 {path}`.")
    return _parse(path.read_text(encoding="utf-8"), f"the keyring {path}")


def _parse(text: str, where: str) -> Keyring:
    try:
        return Keyring.model_validate_json(text)
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, e["loc"])) or "(whole)" for e in error.errors()}))
        raise KeyringError(f"{where} is not a valid keyring (at {fields}): restore it from backup.") from None


def save_keyring(keyring: Keyring, *, replace: bool = False) -> Path:
    """Write the keyring's file, mode 600, atomically; one that is replaced is kept as `keyring-<time>.json`.

    Raises:
        KeyringError: a keyring exists and `replace` is False.
    """
    path = keyring_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(json.loads(keyring.model_dump_json()), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    try:
        if replace:
            _back_up(path)
            partial.replace(path)
        else:
            os.link(partial, path)
    except FileExistsError:
        raise KeyringError(f"There is a keyring at {path} already: `keys rotate` adds a version to it.") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def _back_up(path: Path) -> None:
    """Keep the file that is about to be replaced beside it, dated, under its own mode; and the latest few such."""
    with suppress(FileNotFoundError):  # there is none to keep
        os.link(path, path.with_name(f"{path.stem}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{path.suffix}"))
    for old in sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))[:-_BACKUPS]:
        old.unlink()


def ensure_keyring() -> Keyring:
    """The keyring, created on first use; safe when several processes start at once."""
    if not os.environ.get(KEYRING_VARIABLE) and not keyring_path().exists():
        with suppress(KeyringError):  # another process was first
            save_keyring(new_keyring())
    return load_keyring()
