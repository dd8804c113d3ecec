"""The finished rows of an anonymized table as files: what is copied for the floor, and what DuckDB aggregates."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks.peers import tables
from privacy_platform.policy.tables import Table
from privacy_platform.warehouse.connection import Role, adbc

__all__ = ["Finished", "export"]


@dataclass(frozen=True, slots=True)
class Finished:
    """One table's rows, as Arrow without compression and as Parquet."""

    table: Table
    arrow: Path
    parquet: Path
    rows: int

    def copy(self, target: str) -> int:
        """The floor: COPY all rows into `staging.<target>` by one connection, from mapped memory; returns them."""
        with pa.memory_map(str(self.arrow)) as source:
            file = pa.ipc.open_file(source)
            tables.copy_bare(target, (file.get_batch(index) for index in range(file.num_record_batches)))
        return self.rows


def export(table: Table, folder: Path) -> Finished:
    """Write the rows of a table that stands; some batches are in memory at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    arrow, parquet = folder / f"{table.name}.arrow", folder / f"{table.name}.parquet"
    rows = 0
    connection = adbc(Role.ADMIN)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT * FROM "{table.zone}"."{table.name}"')
            reader = cursor.fetch_record_batch()
            with pa.OSFile(str(arrow), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
                for batch in reader:
                    writer.write_batch(batch)
                    rows += batch.num_rows
    finally:
        connection.close()
    with pa.memory_map(str(arrow)) as source, duckdb.connect(config={"memory_limit": "2GB"}) as database:
        # Without time zone: what is UTC throughout needs none, and DuckDB is faster without.
        file = pa.ipc.open_file(source)
        plain = pa.schema([pa.field(f.name, _plain(f.type)) for f in file.schema])
        batches = (file.get_batch(index).cast(plain) for index in range(file.num_record_batches))
        reader = pa.RecordBatchReader.from_batches(plain, batches)
        database.execute("SET preserve_insertion_order = false")
        database.register("finished", reader)
        database.execute(f"COPY finished TO '{parquet}' (FORMAT parquet)")
    return Finished(table, arrow, parquet, rows)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("us") if pa.types.is_timestamp(kind) else kind
