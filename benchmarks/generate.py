"""How fast is synthetic data made, and how far is that from only writing it down?

The floor is polars writing a ready frame of the same rows as JSON lines to the same disk, in the same run.
"""

import argparse
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.common import Timing, machine, measure, peak_memory_bytes, save, show
from privacy_platform.synthetic import generate
from privacy_platform.synthetic.events import plan, slice_frame
from privacy_platform.synthetic.users import UserSpace

_END = date(2026, 6, 30)
_FLOOR_ROWS = 200_000


def _floor(name: str, frame: pl.DataFrame, folder: Path, runs: int) -> Timing:
    target = folder / "floor.jsonl"
    label = f"floor: polars writes ready {name}"
    return measure(label, frame.height, lambda: frame.write_ndjson(target), runs=runs, warm_up=True)


def run(users: int, events: int, runs: int, folder: Path) -> tuple[list[Timing], int]:
    """Measure in ``folder``; returns the timings and the peak memory before any floor frame existed."""
    generate(users=1000, events=1000, out=folder)  # builds the pools of names once
    people = max(1, min(users, 100_000))
    timings = [
        measure("users to JSON lines", users, lambda: generate(users=users, events=0, out=folder), runs=runs),
        measure("events to JSON lines", events,
                lambda: generate(users=people, events=events, out=folder), runs=runs),
        measure("events to JSON lines, 2 % dirty", events,
                lambda: generate(users=people, events=events, out=folder, dirty=0.02), runs=runs),
        measure("events to Parquet", events,
                lambda: generate(users=people, events=events, out=folder, format="parquet"), runs=runs),
    ]  # fmt: skip
    peak = peak_memory_bytes()
    space = UserSpace(0, max(1, min(users, _FLOOR_ROWS)), _END, 30)
    ready_users = space.frame(np.arange(space.users))
    ready_events = pl.concat(slice_frame(space, part) for part in plan(min(events, _FLOOR_ROWS), _END, 30))
    timings += [_floor("users", ready_users, folder, runs), _floor("events", ready_events, folder, runs)]
    return timings, peak


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--users", type=int, default=300_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    facts = machine(["polars", "numpy", "faker", "pyarrow"])
    with tempfile.TemporaryDirectory(prefix="privacy-platform-") as folder:
        timings, peak = run(options.users, options.events, options.runs, Path(folder))
    facts = {"peak_memory_mb": round(peak / 1e6), **facts}
    show("Synthetic data", timings, facts)
    save(options.json, timings, facts)


if __name__ == "__main__":
    main()
