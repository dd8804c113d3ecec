"""What every benchmark shares: medians of repeated runs, the machine, JSON beside a readable table."""

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

MOVING_ROWS = (
    "pyspark",
    "polars",
    "polars-hash",
    "duckdb",
    "adbc-driver-postgresql",
    "pgpq",
    "psycopg",
    "pyarrow",
    "cryptography",
)
"""The packages whose versions decide how fast rows get from files into tables, ours and the peers'."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall-clock seconds of repeated runs of one thing."""

    name: str
    seconds: tuple[float, ...]
    rows: int

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Rows a second at the median."""
        return self.rows / self.median

    def as_json(self) -> dict[str, Any]:
        """Plain values for a results file."""
        return {
            "name": self.name,
            "rows": self.rows,
            "median_seconds": self.median,
            "rows_per_second": self.rate,
            "seconds": list(self.seconds),
        }


def measure(name: str, rows: int, run: Callable[[], object], *, runs: int = 3, warm_up: bool = False) -> Timing:
    """Time ``run`` ``runs`` times; ``warm_up`` runs it once more before, untimed."""
    if warm_up:
        run()
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return Timing(name, tuple(seconds), rows)


def peak_memory_bytes() -> int:
    """Highest resident memory this process has had."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """The machine and versions a figure was measured with; nothing that names the host."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_at_start": round(psutil.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def show(title: str, timings: Sequence[Timing], facts: Mapping[str, Any]) -> None:
    """Print a table of timings and the facts under it."""
    table = Table(title=title)
    for heading in ("what", "rows", "runs", "median s", "rows/s"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for t in timings:
        table.add_row(t.name, f"{t.rows:,}", str(len(t.seconds)), f"{t.median:.3f}", f"{t.rate:,.0f}")
    console = Console()
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), highlight=False)


def save(path: Path | None, timings: Sequence[Timing], facts: Mapping[str, Any]) -> None:
    """Write timings and facts as JSON, if a path is given."""
    if path:
        results = {"timings": [t.as_json() for t in timings], **facts}
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
