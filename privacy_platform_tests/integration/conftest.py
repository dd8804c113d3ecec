"""One embedded PostgreSQL for a test run: `warehouse_home` is its home, `warehouse` has it set up."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from privacy_platform import settings
from privacy_platform.warehouse import embedded
from privacy_platform.warehouse.connection import URL_VARIABLE
from privacy_platform.warehouse.migrations import ensure_warehouse


@pytest.fixture(scope="session")
def warehouse_home() -> Iterator[Path]:
    """A home of its own with the environment pointing at it; short, so that its socket lies inside."""
    home = Path(tempfile.mkdtemp(prefix="pp-"))
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith(URL_VARIABLE)]:
            patch.delenv(variable)
        patch.setenv(settings.HOME_VARIABLE, str(home))
        try:
            yield home
        finally:
            embedded.stop(home)
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def warehouse(warehouse_home: Path) -> Path:
    """The home of a warehouse that is set up and running."""
    ensure_warehouse()
    return warehouse_home
