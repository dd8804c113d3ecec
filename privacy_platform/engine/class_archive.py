"""An archive of the classes that Spark loads, so that its JVM maps them and need not read and verify them each time.

    python -m privacy_platform.engine.class_archive

makes it, as the set-up does: a small session goes through what a release does, and the JVM writes down at its end what
it has loaded (class data sharing). It belongs to the environment's jars and so lies in the environment, one file for
all homes. The JVM itself sees whether Java and the jars are still those it was made with, and goes without it if not,
or if there is none: a session then starts slower, and that is all.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from pyspark.sql import DataFrame, SparkSession, Window
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
        try:
            # Ends when the JVM, which holds the other end of the pipe, has ended too.
            ended = subprocess.run(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            partial.unlink(missing_ok=True)
            raise ClassArchiveError(f"Spark's session and its JVM have not ended within {_SECONDS:.0f} s.") from None
    if ended.returncode or not partial.is_file():
        partial.unlink(missing_ok=True)
        said = ended.stdout.decode(errors="replace").strip().splitlines()[-3:]
        raise ClassArchiveError(f"Spark's JVM has written no archive: {' '.join(said) or 'it gave no reason'}")
    partial.replace(archive())
    return archive()


def rehearse() -> None:
    """Go once through what a release does with Spark: tasks in Python, groups, windows, joins, kept pieces."""
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
    day = F.date_trunc("day", F.timestamp_seconds(F.col("id") * 3600)).cast("timestamp")
    rows = rows.select("id", (F.col("id") % 97).cast("string").alias("unit"), day.alias("day"), F.rand().alias("value"))
    people = rows.groupBy("unit").agg(F.max("value").alias("most"))
    rows = (
        rows.repartition(F.col("unit")).join(people, on="unit", how="left").withColumn("hash", F.xxhash64("unit", "id"))
    )
    rank = F.row_number().over(Window.partitionBy("unit", "day").orderBy("hash"))
    so_far = Window.partitionBy("unit").orderBy("hash").rowsBetween(Window.unboundedPreceding, 0)
    rows = rows.withColumn("rank", rank).withColumn("before", F.sum(F.lit(1).cast("long")).over(so_far))
    rows = rows.withColumn(
        "stays",
        (F.col("rank") <= 3)
        & (F.col("before") <= 50)
        & F.lag("day").over(Window.partitionBy("unit").orderBy("hash")).isNotNull(),
    )
    pairs = F.slice(F.array_sort(F.collect_set(F.when(F.col("stays"), F.struct("hash", "value")))), 1, 5)
    each = rows.groupBy("unit", F.to_date("day").alias("date")).agg(
        F.first("most").alias("most"),
        F.count(F.lit(1)).alias("rows"),
        F.size(pairs).alias("pairs"),
        F.sum(F.when(F.col("stays"), F.greatest(F.least("value", F.lit(0.9)), F.lit(0.1))).cast("double")).alias("sum"),
        F.percentile("value", F.lit(0.5)).alias("median"),
    )
    return each.groupBy("date").agg(F.count(F.lit(1)).alias("people"), F.sum("rows"), F.avg("sum"), F.max("most"))


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
