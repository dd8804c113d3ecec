"""The passwords of the database logins: `<home>/secrets/database.json`, mode 600 in a directory of mode 700.

One set of random passwords a home. The file is written whole and renamed into place under a lock, so a reader
sees the old or the new set and two processes never draw two passwords for one login. Passwords appear in no
message, log or `repr`.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.locks import exclusive

ENTROPY_BYTES = 24


class CredentialsError(PrivacyPlatformError):
    """The file of database passwords is unusable."""


@dataclass(frozen=True)
class Credentials:
    """What the file holds: a password for each login, and the digest of the last set-up that succeeded."""

    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    ensured: str = ""


def credentials_file(home: Path) -> Path:
    """Where the passwords of `home` are."""
    return home / "secrets" / "database.json"


def read_credentials(home: Path) -> Credentials:
    """The stored passwords; empty when there is no file yet.

    Raises:
        CredentialsError: the file cannot be read or is not what `write` leaves.
    """
    path = credentials_file(home)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Credentials(passwords=dict(document["passwords"]), ensured=str(document["ensured"]))
    except FileNotFoundError:
        return Credentials()
    except OSError as error:
        raise CredentialsError(
            f"cannot read the database passwords in {path}: {error.strerror}; "
            "run as the user who owns this home, or set PRIVACY_PLATFORM_HOME to another one"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(
            f"{path} is damaged; restore it from a copy, or remove it together with {home / 'postgres'} "
            "to begin with an empty database"
        ) from None


def obtain_passwords(home: Path, logins: Sequence[str]) -> Mapping[str, str]:
    """The passwords of `logins`, drawing and storing those that do not exist yet."""
    known = read_credentials(home)
    if all(login in known.passwords for login in logins):
        return {login: known.passwords[login] for login in logins}
    with exclusive(home, "credentials"):
        known = read_credentials(home)
        drawn = {login: secrets.token_urlsafe(ENTROPY_BYTES) for login in logins}
        passwords = {**drawn, **known.passwords}
        _write(home, Credentials(passwords=passwords, ensured=known.ensured))
    return {login: passwords[login] for login in logins}


def note_ensured(home: Path, digest: str) -> None:
    """Remember that this home has been set up as `digest` says."""
    with exclusive(home, "credentials"):
        _write(home, Credentials(passwords=read_credentials(home).passwords, ensured=digest))


def _write(home: Path, credentials: Credentials) -> None:
    path = credentials_file(home)
    document = {"passwords": dict(credentials.passwords), "ensured": credentials.ensured}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CredentialsError(f"cannot write the database passwords to {path}: {error.strerror}") from None
