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
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow as pa
from pyspark.sql import functions

from privacy_platform import settings
from privacy_platform.errors import PrivacyPlatformError

# Said of an archive that does not fit any more, at every start; it is no news to whoever runs a release.
QUIET = "-Xlog:cds*=off"
# Many times what it takes, for a busy machine.
_SECONDS = 600.0
_REHEARSE = "import sys; from privacy_platform.engine.class_archive import rehearse; rehearse(sys.argv[1])"
# Of the process that rehearses, instead of the usual ones.
_options: list[str] = []


class ClassArchiveError(PrivacyPlatformError):
    """The archive could not be made; sessions start slower without it."""


def archive() -> Path:
    """Where the archive of this environment is, if it was made."""
    return Path(sys.prefix) / "spark-classes.jsa"


def java_options() -> list[str]:
    """Options for the driver's JVM: to use the archive where there is one."""
    if _options:
        return _options
    # A blank would end the option.
    usable = archive().is_file() and not any(c.isspace() for c in str(archive()))
    return [f"-XX:SharedArchiveFile={archive()}", "-Xshare:auto", QUIET] if usable else []


def make() -> Path:
    """Make the archive, in the place of the one that is there.

    Raises:
        ClassArchiveError: the session failed, or its JVM cannot write an archive.
    """
    for left in archive().parent.glob(f"{archive().name}.*"):  # by a JVM that ended too late
        left.unlink(missing_ok=True)
    partial = archive().with_name(f"{archive().name}.{os.getpid()}")
    with TemporaryDirectory(prefix="privacy-platform-") as home:
        environment = {**os.environ, settings.HOME_VARIABLE: home}
        environment.pop("PRIVACY_PLATFORM_SPARK_MASTER", None)
        command = [sys.executable, "-c", _REHEARSE, str(partial)]
        # In a session of its own: what is not ended in time is, with the JVM that it started.
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            try:
                # Ends when the JVM, which holds the other end of the pipe, has ended too.
                told, _ = process.communicate(timeout=_SECONDS)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                partial.unlink(missing_ok=True)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                late = f"Spark's session and its JVM have not ended within {_SECONDS:.0f} s."
                raise ClassArchiveError(late) from None
    # The JVM writes the beginning last. What it had no time to finish must not be used: reading it ends in a crash.
    if process.returncode or not _whole(partial):
        partial.unlink(missing_ok=True)
        said = told.decode(errors="replace").strip().splitlines()[-3:]
        raise ClassArchiveError(f"Spark's JVM has written no archive: {' '.join(said) or 'it gave no reason'}")
    partial.replace(archive())
    return archive()


def _whole(file: Path) -> bool:
    try:
        with file.open("rb") as written:
            return any(written.read(4))
    except FileNotFoundError:
        return False


def rehearse(written: str) -> None:
    """Go once through all that a release does with Spark: tasks, pieces that are kept, groups of what tasks read.

    Args:
        written: where the JVM is to write the archive at its end.
    """
    from privacy_platform.engine.session import spark_session
    from privacy_platform.engine.stage import (
        collected,
        frame_stage,
        kept_pieces,
        kept_stage,
        read_stage,
        run_kept,
        run_stage,
    )

    _options[:] = [f"-XX:ArchiveClassesAtExit={written}", QUIET]
    spark = spark_session()
    run_stage(spark, [1, 2], lambda split: Counter(split=split))
    kept = kept_stage(spark, [1, 2], lambda split: iter([("piece", bytes([split]))]))
    kept_pieces(kept, "piece")
    run_kept(kept, ["piece"], lambda split, pieces: Counter(split=split, pieces=len(list(pieces))))
    kept.unpersist()
    frame_stage(spark, [1, 2], lambda split: pl.DataFrame({"split": [split]}))
    batch = pa.RecordBatch.from_pydict({"day": [date(2026, 1, 1)], "kind": ["a"], "value": [0.5]})
    read = read_stage(spark, [1, 2], lambda _: iter([batch]), "day date, kind string, value double")
    collected(read.groupBy("day", "kind").agg(functions.percentile("value", functions.lit(0.5)).alias("value")))


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
