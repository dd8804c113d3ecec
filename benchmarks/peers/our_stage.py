"""Ours, the part that compares with a transform-and-load tool like for like.

Inside: cutting the file into splits, Spark's scheduling on a warm session, the strict JSON reader (types, unknown
fields, rejects), the policy's kernels, exactly-once COPY into the staging table that a release uses, in as many
connections as there are tasks. Not inside: sealing and the vault, the leak scan, the checks, suppression for k,
indexes, publishing. `release_raw` and `release_anonymized` do all that and are measured beside it.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from pyspark.sql import SparkSession

from privacy_platform.engine.anonymize import release_salt, transformed
from privacy_platform.engine.land import pseudonym_secrets
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.sources.batch import Split
from privacy_platform.engine.sources.splits import file_splits
from privacy_platform.engine.stage import CopyOnce, Statistics, run_stage, total
from privacy_platform.policy.compile import anonymized_table
from privacy_platform.policy.model import ANONYMIZED_AT, DatasetPolicy
from privacy_platform.policy.tables import WHOLE
from privacy_platform.vault.keyring import load_keyring
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import Release, open_staging


@dataclass(frozen=True)
class TransformTask:
    """Landing rows straight to published columns, in a staging table."""

    policy: DatasetPolicy
    release: Release
    at: datetime

    def __call__(self, split: Split) -> Statistics:
        """Load one split; returns its counts."""
        types = {name: field.type for name, field in self.policy.fields.items()}
        with (
            closing(connect(Role.PIPELINE, wait_for_disk=False)) as output,
            CopyOnce(output, self.release.staging, split.index) as copy,
        ):
            if copy.done is not None:
                return copy.done
            statistics: Statistics = Counter()
            secrets = pseudonym_secrets(load_keyring(), release_salt(output, self.release))
            for batch in split.batches(types, (self.policy.subject,)):
                published = transformed(self.policy, batch.rows, secrets).with_columns(
                    pl.lit(self.at, dtype=pl.Datetime("us", "UTC")).alias(ANONYMIZED_AT)
                )
                copy.copy(self.release.staging, published)
                statistics["staged"] += published.height
            copy.commit(statistics)
            return statistics


def prepare(policy: DatasetPolicy) -> Release:
    """Empty staging tables as a release opens them, after dropping those of the run before."""
    release = Release(anonymized_table(policy), (WHOLE,))
    with connect(Role.PIPELINE) as connection:
        open_staging(connection, release)
    return release


def load(spark: SparkSession, policy: DatasetPolicy, release: Release, files: Sequence[Path]) -> int:
    """Load the files; returns the rows staged."""
    splits = file_splits(files, parallelism=parallelism())
    task = TransformTask(policy, release, datetime.now(UTC))
    return total(run_stage(spark, splits, task))["staged"]
