"""The Spark session's settings, in one place.

Local by default; `PRIVACY_PLATFORM_SPARK_MASTER=spark://…`, another master that Spark knows, or `sc://…` (Spark
Connect) moves the same code to a cluster. Nothing here needs a `SparkContext`.
"""

import os
import re
import shutil
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkImportError
from pyspark.sql import SparkSession

from privacy_platform import settings
from privacy_platform.engine import class_archive
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.processes import has_ended, this_process

MASTER_VARIABLE = "PRIVACY_PLATFORM_SPARK_MASTER"
MEMORY_VARIABLE = "PRIVACY_PLATFORM_SPARK_MEMORY"
_LOGGING = Path(__file__).resolve().parent / "log4j2.properties"
_CONNECT = "sc://"
_ADDRESS = re.compile(r"([\w.-]+|\[[\da-fA-F:]+\]):(\d+)")
_ANSWER_SECONDS = 5.0


class ClusterError(PrivacyPlatformError):
    """The Spark cluster that the environment names cannot be used."""


def spark_config() -> dict[str, Any]:
    """Configuration for a new session: all of it, or of a Spark Connect session what is a session's own."""
    master = _master()
    if master.startswith(_CONNECT):
        return {"spark.remote": master} | _session_settings()
    return _process_settings(master) | _session_settings()


def is_local() -> bool:
    """Whether the tasks run on this machine, in processes of this one."""
    return _master() == "local"


def _master() -> str:
    return os.environ.get(MASTER_VARIABLE) or "local"


def _session_settings() -> dict[str, str]:
    """What a session can say wherever it runs."""
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(4 * parallelism()),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Kept batches of a release are megabytes each: without a bound a worker is given thousands at once.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(64 * 2**20),
        # Values of a failing row must not reach an exception, a log or Dagster's event log.
        "spark.sql.debug.maxToStringFields": "1",
        "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "true",
    }


def _process_settings(master: str) -> dict[str, str]:
    """What must be said before driver and executors start; a Spark Connect server is told when it is started."""
    # `local[*]` tries a task once; the second number makes it behave as a cluster does.
    target = {"spark.master": f"local[{parallelism()},{spark_attempts()}]" if is_local() else master}
    # Workers on other machines have to reach the driver; local ones must not open it to the network.
    address = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"} if is_local() else {}
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
        # What is kept of a thousand jobs and queries for an interface that is off; a stream has as many in an hour.
        "spark.ui.retainedJobs": "20",
        "spark.ui.retainedStages": "20",
        "spark.ui.retainedTasks": "1000",
        "spark.sql.ui.retainedExecutions": "20",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
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

    Also makes the folder of shuffles, removes those of killed runs, and sees that a cluster answers at all.

    Raises:
        ClusterError: nothing answers at the address of the cluster, or Spark Connect's client is not installed.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if is_local():
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for folder in (settings.home(), _scratch().parent, _scratch()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clear_scratch()
    _require_cluster(_master())


@cache
def _require_cluster(master: str) -> None:
    """See that the cluster can be asked: Spark itself goes on trying for minutes, and says nothing at its log level."""
    if master.startswith(_CONNECT):
        _require_connect_client()
    elif not master.startswith("spark://"):
        return
    addresses = _ADDRESS.findall(master.partition(";")[0])
    if not addresses:
        raise ClusterError(f"{MASTER_VARIABLE} has no HOST:PORT: write spark://HOST:7077, or sc://HOST:15002.")
    for host, port in addresses:
        with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS):
            return
    shown = ", ".join(f"{host}:{port}" for host, port in addresses)  # what follows a `;` may be a secret
    raise ClusterError(f"No Spark answers at {shown}: start it, or correct {MASTER_VARIABLE}.")


def _require_connect_client() -> None:
    from pyspark.sql.connect.utils import check_dependencies

    try:
        check_dependencies()
    except (PySparkImportError, ImportError) as error:
        missing = re.search(r"(\w[\w-]*) >= ", str(error))
        raise ClusterError(
            f"Spark Connect needs packages that are not installed ({missing.group(1) if missing else 'grpcio'}, …): "
            "install privacy-platform[connect], or use spark://…"
        ) from None


def spark_session() -> SparkSession:
    """The session of this process, started on first use.

    Raises:
        ClusterError: see `prepare_environment`.
    """
    prepare_environment()
    builder = SparkSession.builder
    for key, value in spark_config().items():
        builder = builder.config(key, value)
    return builder.getOrCreate()
