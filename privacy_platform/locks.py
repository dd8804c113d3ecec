"""Locks of a home that processes take in turn; one ends with the process that holds it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from privacy_platform.errors import PrivacyPlatformError


class LockError(PrivacyPlatformError):
    """The lock is held elsewhere for too long, or the home cannot be written."""


@contextmanager
def exclusive(home: Path, name: str, *, seconds: float = 120.0) -> Iterator[None]:
    """Hold the lock `name` of `home`, waiting at most `seconds`; it ends with the process that holds it.

    Raises:
        LockError: the lock is still held elsewhere after `seconds`, or the home cannot be written.
    """
    path = home / f".{name}.lock"
    deadline = time.monotonic() + seconds
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LockError(
            f"cannot open the lock {path}: {error.strerror}; "
            "run as the user who owns this home, or set PRIVACY_PLATFORM_HOME to another one"
        ) from None
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockError(
                        f"another process has held {path} for over {seconds:.0f} s; "
                        "wait for it or end it, then try again"
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
