"""The tiers of the suite, kept apart by code, and the services they share: PostgreSQL, Kafka and Spark.

`unit/` needs nothing running, and a test there that asks for a service does not even get collected. `integration/` and
`end_to_end/` share `warehouse_home`, `warehouse`, `kafka` and `spark`, one of each a process. In CI (variable `CI`) a
skipped test is a failed one.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from privacy_platform.streaming.broker import Broker

SERVICES = frozenset({"warehouse_home", "warehouse", "kafka", "spark"})
TIERS = {
    "unit": "needs no service",
    "integration": "needs PostgreSQL, Kafka or Spark",
    "end_to_end": "runs the platform as its users do",
}
_ROOT = Path(__file__).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    """Register a marker for each tier, so that `-m unit` works."""
    for tier, meaning in TIERS.items():
        config.addinivalue_line("markers", f"{tier}: {meaning}")


def tier_of(path: Path) -> str | None:
    """The tier a test file belongs to: the folder it lies in."""
    inside = path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts
    return inside[0] if inside and inside[0] in TIERS else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier, and refuse unit tests that ask for a service."""
    misplaced = []
    for item in items:
        tier = tier_of(item.path)
        if tier is None:
            continue
        item.add_marker(tier)
        wanted = SERVICES & set(getattr(item, "fixturenames", ()))
        if tier == "unit" and wanted:
            misplaced.append(f"{item.nodeid} asks for `{min(wanted)}`")
    if misplaced:
        raise pytest.UsageError("a unit test needs no service; move it to integration/: " + "; ".join(misplaced))


def _unskipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"not run, and CI skips nothing: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip, or an expected failure, is a failure."""
    report = yield
    _unskipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    _unskipped(report)
    return report


@pytest.fixture(scope="session")
def warehouse_home() -> Iterator[Path]:
    """A home of its own with the environment pointing at it; short, so that its socket lies inside."""
    from privacy_platform import settings
    from privacy_platform.streaming import jars
    from privacy_platform.streaming.client import VARIABLE_PREFIX
    from privacy_platform.vault.keyring import KEYRING_VARIABLE
    from privacy_platform.warehouse import embedded
    from privacy_platform.warehouse.connection import URL_VARIABLE

    home = Path(tempfile.mkdtemp(prefix="pp-"))
    foreign = (URL_VARIABLE, KEYRING_VARIABLE, VARIABLE_PREFIX, settings.LANDING_VARIABLE, settings.POLICIES_VARIABLE)
    kept_jars = jars.folder()
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith(foreign)]:
            patch.delenv(variable)
        patch.setenv(settings.HOME_VARIABLE, str(home))
        patch.setenv(jars.FOLDER_VARIABLE, str(kept_jars))
        try:
            yield home
        finally:
            embedded.stop(home)
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def warehouse(warehouse_home: Path) -> Path:
    """The home of a warehouse that is set up and running."""
    from privacy_platform.warehouse.migrations import ensure_warehouse

    ensure_warehouse()
    return warehouse_home


@pytest.fixture(scope="session")
def kafka(warehouse_home: Path) -> "Iterator[Broker]":
    """The run's Kafka broker, which the environment's home points at. Topics are the tests' own."""
    from privacy_platform.streaming import broker

    try:
        yield broker.start(warehouse_home)
    finally:
        broker.stop(warehouse_home)


@pytest.fixture
def topic(kafka: "Broker") -> str:
    """A new topic of three partitions, for this test alone."""
    from privacy_platform.streaming.topics import ensure_topic

    name = f"user-events-{secrets.token_hex(4)}"
    ensure_topic(kafka.client, name)
    return name


@pytest.fixture(scope="session")
def spark(warehouse_home: Path) -> "Iterator[SparkSession]":
    """The Spark session, its work files in the run's home; stages carry the home of their test to the workers."""
    from privacy_platform.engine.session import spark_session

    session = spark_session()
    try:
        yield session
    finally:
        session.stop()
