"""How long does the search for the least generalization take, and how does it grow?

Each search is for k = 5 at suppression limits of 0, 1 and 5 %, in this process alone, on distinct tuples that are
counted already. Tables are generated: a population's age range, gender, region, state, zip prefix and month of joining,
where zip gives state and region. With `--data FOLDER`, a table of one's own as well: `NAME.csv` (separator `;`, with a
header) and a hierarchy `NAME_hierarchy_COLUMN.csv` in the form of ARX for every quasi-identifier.
"""

import argparse
import tracemalloc
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.common import Timing, machine, measure, peak_memory_bytes, save, show
from privacy_platform.anonymization.hierarchies.tables import read
from privacy_platform.anonymization.kanonymity.build import ladder
from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.lattice import global_recoding
from privacy_platform.anonymization.kanonymity.requirements import Requirements
from privacy_platform.anonymization.kanonymity.tuples import Tuples

_K = 5
_LIMITS = (0.0, 0.01, 0.05)
_SLICE = 1_000_000
_COUNT = "records"
# Groups of each column at each level.
_POPULATION = {
    "age": (7, 3, 1),
    "gender": (4, 1),
    "region": (6, 1),
    "state": (60, 6, 1),
    "zip_prefix": (400, 60, 6, 1),
    "created_month": (36, 12, 3, 1),
}


def population(records: int, seed: int = 7) -> tuple[Tuples, list[Ladder]]:
    """A generated table: records in slices, so that memory follows the distinct tuples."""
    widths = [groups[0] for groups in _POPULATION.values()]
    generator = np.random.default_rng(seed)
    counted = pl.DataFrame(schema={"key": pl.Int64, _COUNT: pl.Int64})
    for begin in range(0, records, _SLICE):
        keys = pl.DataFrame({"key": _keys(generator, min(_SLICE, records - begin), widths)})
        part = keys.group_by("key").agg(pl.len().cast(pl.Int64).alias(_COUNT))
        counted = pl.concat([counted, part]).group_by("key").agg(pl.col(_COUNT).sum())
    counted = counted.sort("key")
    codes = np.stack(np.unravel_index(counted["key"].to_numpy(), widths), axis=1).astype(np.int32)
    ladders = [_equal_groups(name, groups) for name, groups in _POPULATION.items()]
    return Tuples(codes, counted[_COUNT].to_numpy()), ladders


def _keys(generator: np.random.Generator, rows: int, widths: Sequence[int]) -> npt.NDArray[np.int64]:
    """Records as one number each: a few large cities in a flat country, more people who joined lately."""
    large = generator.zipf(1.3, rows) * 7919 % widths[4]
    zip_prefix = np.where(generator.random(rows) < 0.1, large, generator.integers(0, widths[4], rows))
    state = zip_prefix * widths[3] // widths[4]
    columns = [
        generator.integers(0, widths[0], rows),
        generator.choice(widths[1], rows, p=[0.45, 0.43, 0.08, 0.04]),
        state * widths[2] // widths[3],
        state,
        zip_prefix,
        (generator.beta(1.5, 1.1, rows) * widths[5]).astype(np.int64),
    ]
    return np.ravel_multi_index(columns, widths).astype(np.int64)


def _equal_groups(name: str, groups: Sequence[int]) -> Ladder:
    """A hierarchy of groups of equal size."""
    values = groups[0]
    codes = tuple((np.arange(values) * count // values).astype(np.int32) for count in groups)
    return Ladder(
        name,
        tuple(f"level {level}" for level in range(len(groups))),
        codes,
        tuple(tuple(str(group) for group in range(count)) for count in groups),
        tuple((np.bincount(level) - 1) / (values - 1) for level in codes),
    )


def table(folder: Path) -> tuple[str, Tuples, list[Ladder]]:
    """The table of a folder, its tuples and its hierarchies."""
    marker = "_hierarchy_"
    path = next(file for file in sorted(folder.glob("*.csv")) if marker not in file.name)
    frame = pl.read_csv(path, separator=";", infer_schema=False)
    files = {name: path.with_name(f"{path.stem}{marker}{name}.csv") for name in frame.columns}
    hierarchies = {name: read(file) for name, file in files.items() if file.exists()}
    ladders, codes = [], []
    for name, hierarchy in hierarchies.items():
        values = frame[name].unique().sort()
        ladders.append(ladder(name, hierarchy, values, finest=hierarchy.leaf))
        code = pl.Series(np.arange(len(values), dtype=np.int32))
        codes.append(pl.col(name).replace_strict(values, code, return_dtype=pl.Int32))
    counted = frame.select(codes).group_by(list(hierarchies)).agg(pl.len().cast(pl.Int64).alias(_COUNT))
    counted = counted.sort(list(hierarchies))
    return path.stem, Tuples(counted.drop(_COUNT).to_numpy(), counted[_COUNT].to_numpy()), ladders


def search(
    name: str, tuples: Tuples, ladders: Sequence[Ladder], runs: int
) -> tuple[list[Timing], list[dict[str, Any]]]:
    """Time the searches of a table; what they found and the memory they took beside the table, from a run more."""
    timings, found = [], []
    nodes = int(np.prod([len(one.levels) for one in ladders]))
    for limit in _LIMITS:
        needs = Requirements(_K, suppression_limit=limit)
        label = f"{name}, at most {limit:.0%} suppressed"
        run = partial(global_recoding, tuples, ladders, needs)
        timings.append(measure(label, tuples.records, run, runs=runs))
        tracemalloc.start()
        recoding = run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        found.append({
            "name": label,
            "distinct_tuples": len(tuples.counts),
            "nodes": nodes,
            "evaluated": recoding.checked,
            "loss": round(recoding.loss, 5),
            "suppressed": recoding.suppressed_records,
            "classes": recoding.classes,
            "peak_memory_mb": round(peak / 1e6, 1),
        })  # fmt: skip
    return timings, found


def _show_found(found: Sequence[Mapping[str, Any]]) -> None:
    shown = RichTable(title="What was found")
    for heading in found[0]:
        shown.add_column(heading, justify="left" if heading == "name" else "right")
    for one in found:
        shown.add_row(*(f"{value:,}" if isinstance(value, int) else f"{value}" for value in one.values()))
    Console(width=180).print(shown)


def main() -> None:
    """Parse the arguments, measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.k_anonymity", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of a table and its hierarchies in the form of ARX")
    parser.add_argument("--records", type=int, nargs="*", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    options = parser.parse_args()
    facts = machine(["numpy", "polars"])
    timings, found = [], []
    tables = [(f"{records:,} generated", *population(records)) for records in options.records]
    for name, tuples, ladders in ([table(options.data)] if options.data else []) + tables:
        more_timings, more_found = search(name, tuples, ladders, options.runs)
        timings += more_timings
        found += more_found
    facts = {"process_peak_mb": round(peak_memory_bytes() / 1e6), **facts}
    show(f"Search for k = {_K}", timings, facts)
    _show_found(found)
    save(options.json, timings, {"found": found, **facts})


if __name__ == "__main__":
    main()
