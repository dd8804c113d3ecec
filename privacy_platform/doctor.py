"""What a run needs, looked at one by one: each finding says what is there, or the mend."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from privacy_platform import settings
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.load import load_policies
from privacy_platform.streaming import broker
from privacy_platform.streaming.client import from_environment
from privacy_platform.streaming.cluster import client_settings
from privacy_platform.streaming.records import require_reader
from privacy_platform.streaming.topics import names
from privacy_platform.vault.keyring import load_keyring
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.migrations import ensure_warehouse


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


def examine() -> list[Finding]:
    """All findings, in the order things depend on each other."""
    looks: list[tuple[str, Callable[[], str]]] = [
        ("Java", _java),
        ("keyring", _keyring),
        ("policies", _policies),
        ("warehouse", _warehouse),
        ("landing folder", _landing),
        ("Kafka", _kafka),
    ]
    return [_look(name, look) for name, look in looks]


def _look(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except PrivacyPlatformError as error:
        return Finding(name, False, str(error))


def _java() -> str:
    program = shutil.which("java")
    if program is None:
        raise PrivacyPlatformError("not found: install Java 17 or newer, e.g. openjdk-17-jre-headless.")
    answer = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    found = re.search(r'version "(\d+)', answer)
    if found is None or int(found.group(1)) < 17:
        raise PrivacyPlatformError("older than 17: install Java 17 or newer, e.g. openjdk-17-jre-headless.")
    return f"version {found.group(1)}"


def _keyring() -> str:
    keyring = load_keyring()
    return f"versions {', '.join(map(str, sorted(keyring.masters)))}; version {keyring.current} seals new subjects"


def _policies() -> str:
    policies = load_policies()
    if policies.invalid:
        raise PrivacyPlatformError(policies.invalid[0].message)
    return f"{len(policies.datasets)} datasets, {len(policies.aggregates)} aggregates"


def _warehouse() -> str:
    ensure_warehouse()
    with connect(Role.PIPELINE) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return f"PostgreSQL {row[0] if row else '?'}"


def _kafka() -> str:
    if from_environment() is None and broker.status(settings.home()) is None:
        return "not running, and needed for streams only: `privacy-platform kafka up`"
    cluster = client_settings()
    require_reader(cluster)
    return f"{cluster.bootstrap_servers}, topics: {', '.join(names(cluster)) or 'none'}"


def _landing() -> str:
    folder = settings.landing()
    if not folder.is_dir():
        raise PrivacyPlatformError(f"{folder} does not exist: create it, or run `privacy-platform up`.")
    return str(folder)
