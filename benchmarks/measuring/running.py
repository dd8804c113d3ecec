"""A session, and stages one after the other."""

import time
from collections.abc import Callable, Sequence

from pyspark.sql import SparkSession

from benchmarks.measuring.meter import Meter
from benchmarks.measuring.results import RunResult, StageResult
from benchmarks.measuring.stages import Stage
from privacy_platform.engine.session import parallelism, spark_session
from privacy_platform.engine.stage import Statistics, run_stage

__all__ = ["measured", "session"]


def session() -> tuple[SparkSession, float, float]:
    """A session, the seconds of its start, and those of its first task, which starts the Python workers."""
    begin = time.perf_counter()
    spark = spark_session()
    started = time.perf_counter()
    run_stage(spark, list(range(parallelism())), _nothing)
    return spark, started - begin, time.perf_counter() - started


def _nothing(_: int) -> Statistics:
    return Statistics()


def measured(
    result: RunResult, stages: Sequence[Stage], meter: Meter, *, keep: Callable[[RunResult], object] = lambda _: None
) -> RunResult:
    """The result with the stages measured one by one; one whose input is missing is left out and says so.

    `keep` is given the result after every stage.
    """
    for stage in stages:
        ended = {done.name for done in result.stages if not done.error}
        missing = [name for name in stage.needs if name not in ended]
        if missing:
            done = StageResult(
                name=stage.name,
                part=stage.part,
                rows=stage.rows,
                seconds=0.0,
                error=f"not run: {missing[0]} is missing",
            )
        else:
            done = meter.measure(stage.name, stage.part, stage.rows, stage.run)
            if stage.after:
                stage.after()
        result = result.model_copy(update={"stages": (*result.stages, done)})
        keep(result)
    return result
