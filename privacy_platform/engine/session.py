"""The Spark session's settings, in one place.

Local by default; `PRIVACY_PLATFORM_SPARK_MASTER=spark://…` or `sc://…` (Spark Connect) moves the same code to a
cluster. Nothing here needs a `SparkContext`.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from privacy_platform import settings
from privacy_platform.engine import class_archive
from privacy_platform.processes import has_ended, this_process

MASTER_VARIABLE = "PRIVACY_PLATFORM_SPARK_MASTER"
MEMORY_VARIABLE = "PRIVACY_PLATFORM_SPARK_MEMORY"
_LOGGING = Path(__file__).resolve().parent / "log4j2.properties"


def spark_config() -> dict[str, Any]:
    """Configuration for a new session."""
    master = os.environ.get(MASTER_VARIABLE, "local")
    target = (
        {"spark.remote": master}
        if master.startswith("sc://")
        # `local[*]` tries a task once; the second number makes it behave as a cluster does.
        else {"spark.master": f"local[{parallelism()},{spark_attempts()}]" if master == "local" else master}
    )
    # Workers on other machines have to reach the driver; local ones must not open it to the network.
    address = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"} if master == "local" else {}
    return {
        **target,
        **address,
        "spark.app.name": "privacy-platform",
        "spark.driver.memory": os.environ.get(MEMORY_VARIABLE, "1g"),
        "spark.driver.extraJavaOptions": " ".join(
            [
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}",
                *class_archive.java_options(),
            ]
        ),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(4 * parallelism()),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Kept batches of a release are megabytes each: without a bound a worker is given thousands at once.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(64 * 2**20),
        # Values of a failing row must not reach an exception, a log or Dagster's event log.
        "spark.sql.debug.maxToStringFields": "1",
        "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "true",
        "spark.executorEnv.POLARS_MAX_THREADS": "1",
        "spark.executorEnv.OMP_NUM_THREADS": "1",
        # Batch after batch needs the same memory again: given back to the system and taken anew each time, it costs a
        # tenth of a worker's processor time. Of the C library (whose largest possible threshold is 32 MiB) and Polars.
        "spark.executorEnv.MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
        "spark.executorEnv.MALLOC_TRIM_THRESHOLD_": str(2**30),
        "spark.executorEnv._RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
        "spark.python.worker.reuse": "true",
        "spark.task.maxFailures": str(spark_attempts()),
        "spark.local.dir": os.environ.get("SPARK_LOCAL_DIRS") or str(_scratch()),
    }


def _scratch() -> Path:
    """Where shuffles lie: in the home, which is closed to others; made with the session, not by loading definitions.

    Each process has a folder of its own, so that what a killed one has left can be told from what is in use.
    """
    return settings.home() / "spark" / this_process()


def _clear_scratch() -> None:
    """Remove the folders of processes that are gone: shuffles hold pseudonymous rows."""
    for folder in _scratch().parent.iterdir():
        if has_ended(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def parallelism() -> int:
    """How many tasks run at once: the processors of this machine unless the cluster says otherwise."""
    return int(os.environ.get("PRIVACY_PLATFORM_PARALLELISM", os.cpu_count() or 1))


def spark_attempts() -> int:
    """How often a task is tried before its stage fails."""
    return 3


def prepare_environment() -> None:
    """Make the workers use this interpreter and Spark bind to the loopback address; before the session starts.

    Also makes the folder of shuffles, and removes those of killed runs.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if os.environ.get(MASTER_VARIABLE, "local") == "local":
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for folder in (settings.home(), _scratch().parent, _scratch()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clear_scratch()


def spark_session() -> SparkSession:
    """The session of this process, started on first use."""
    prepare_environment()
    builder = SparkSession.builder
    for key, value in spark_config().items():
        builder = builder.config(key, value)
    return builder.getOrCreate()
