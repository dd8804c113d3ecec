"""The engine's tests share the run's server and Spark session; each module has a landing folder of its own."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privacy_platform_tests.integration.engine.support import World

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def world(warehouse: Path, spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> World:
    """A landing folder and what it takes to release from it."""
    return World(spark, tmp_path_factory.mktemp("landing"))
