"""Resources: the Spark session and the warehouse, opened when an asset first needs them."""

from typing import Any, Self

import dagster as dg
from dagster_pyspark import LazyPySparkResource
from pydantic import Field, PrivateAttr
from pyspark.sql import SparkSession

from privacy_platform.engine.session import prepare_environment, spark_config
from privacy_platform.vault.keyring import load_keyring
from privacy_platform.warehouse.migrations import ensure_warehouse


class SparkResource(LazyPySparkResource):
    """The run's Spark session: local by default, a cluster by configuration; shared by all assets of the run."""

    spark_config: dict[str, Any] = Field(default_factory=spark_config)

    def session(self) -> SparkSession:
        """The session, started on first use."""
        prepare_environment()
        session: SparkSession = self.spark_session
        return session


class WarehouseResource(dg.ConfigurableResource["WarehouseResource"]):
    """PostgreSQL and the keyring: ready before the first statement of a run, or a clear error."""

    _ready: bool = PrivateAttr(default=False)

    def ready(self) -> Self:
        """Start the embedded server if it is the one in use, migrate, and see that the keyring is there."""
        if not self._ready:
            ensure_warehouse()
            load_keyring()
            self._ready = True
        return self
