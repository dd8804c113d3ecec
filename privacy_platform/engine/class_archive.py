"""An archive of the classes that Spark loads, so that its JVM maps them and need not read and verify them each time.

    python -m privacy_platform.engine.class_archive

makes it, as the set-up does: a small session goes through what a release does, and the JVM writes down at its end what
it has loaded (class data sharing). It belongs to the environment's jars and so lies in the environment, one file for
all homes. The JVM itself sees whether Java and the jars are still those it was made with, and goes without it if not,
or if there is none: a session then starts slower, and that is all.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from privacy_platform import settings
from privacy_platform.errors import PrivacyPlatformError

# Said of an archive that does not fit any more, at every start; it is no news to whoever runs a release.
QUIET = "-Xlog:cds*=off"
_RECORD = "PRIVACY_PLATFORM_RECORD_CLASSES"
# The JVM writes it after the session's Python has ended.
_SECONDS = 120.0


class ClassArchiveError(PrivacyPlatformError):
    """The archive could not be made; sessions start slower without it."""


def archive() -> Path:
    """Where the archive of this environment is, if it was made."""
    return Path(sys.prefix) / "spark-classes.jsa"


def java_options() -> list[str]:
    """Options for the driver's JVM: to use the archive where there is one."""
    recorded = os.environ.get(_RECORD)
    if recorded:
        return [f"-XX:ArchiveClassesAtExit={recorded}", QUIET]
    # A blank would end the option.
    usable = archive().is_file() and not any(c.isspace() for c in str(archive()))
    return [f"-XX:SharedArchiveFile={archive()}", "-Xshare:auto", QUIET] if usable else []


def make() -> Path:
    """Make the archive, in the place of the one that is there.

    Raises:
        ClassArchiveError: the session failed, or its JVM cannot write an archive.
    """
    partial = archive().with_name(f"{archive().name}.{os.getpid()}")
    with TemporaryDirectory(prefix="privacy-platform-") as home:
        environment = {**os.environ, _RECORD: str(partial), settings.HOME_VARIABLE: home}
        environment.pop("PRIVACY_PLATFORM_SPARK_MASTER", None)
        command = [sys.executable, "-c", "from privacy_platform.engine.class_archive import rehearse; rehearse()"]
        # In a session of its own: what is not ended in time is, with the JVM that it started.
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            try:
                # Ends when the JVM, which holds the other end of the pipe, has ended too.
                said, _ = process.communicate(timeout=_SECONDS)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                partial.unlink(missing_ok=True)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise ClassArchiveError(
                    f"Spark's session and its JVM have not ended within {_SECONDS:.0f} s."
                ) from None
    # The JVM writes the beginning last. What it had no time to finish must not be used: reading it ends in a crash.
    if process.returncode or not _whole(partial):
        partial.unlink(missing_ok=True)
        reason = " ".join(said.decode(errors="replace").strip().splitlines()[-3:])
        raise ClassArchiveError(f"Spark's JVM has written no archive: {reason or 'it gave no reason'}")
    partial.replace(archive())
    return archive()


def _whole(file: Path) -> bool:
    try:
        with file.open("rb") as written:
            return any(written.read(4))
    except FileNotFoundError:
        return False


def rehearse() -> None:
    """Go once through what a release does with Spark: tasks in Python, kept pieces, groups."""
    from privacy_platform.engine.session import spark_session
    from privacy_platform.engine.stage import collected, kept_pieces, kept_stage, run_kept, run_stage

    spark = spark_session()
    run_stage(spark, [1, 2], lambda split: Counter(split=split))
    kept = kept_stage(spark, [1, 2], lambda split: iter([("piece", bytes([split]))]))
    kept_pieces(kept, "piece")
    run_kept(kept, ["piece"], lambda split, pieces: Counter(split=split, pieces=len(list(pieces))))
    kept.unpersist()
    collected(_figures(spark))


def _figures(spark: SparkSession) -> DataFrame:
    rows = spark.range(0, 1000, 1, 2).mapInArrow(lambda batches: batches, "id long")
    day = F.to_date(F.timestamp_seconds(F.col("id") * 3600)).alias("day")
    return rows.groupBy(day).agg(F.percentile(F.col("id").cast("double"), F.lit(0.5)).alias("median"))


def main() -> None:
    """Make the archive, and say how large it is and how long it took; exit code 1 when there is none."""
    began = time.monotonic()
    try:
        made = make()
    except ClassArchiveError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{made.stat().st_size / 2**20:.0f} MiB of classes in {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
