"""The figures of runs as Markdown tables, for the terminal and for docs/benchmarks.md."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.measuring.processes import Group
from benchmarks.measuring.results import Growth, Ratio, RunResult, StageResult, growth, short

__all__ = ["BEGIN", "END", "of_run", "of_runs", "put"]

BEGIN, END = "<!-- pipeline figures: begin -->", "<!-- pipeline figures: end -->"
"""What stands around the tables in a document that `put` rewrites."""
_LINEAR = 1.10
_LARGE = 0.01


def of_runs(runs: Sequence[RunResult], *, images: str | None = None) -> str:
    """All runs, and how they grow; with the plots if their folder is given."""
    parts = [of_run(run) for run in runs]
    if len(runs) > 1:
        parts.append(_growth(runs, growth(runs)))
    if images:
        parts.append(_plots(images, peers=any(run.ratios for run in runs), grows=len(runs) > 1))
    return "\n\n".join(parts)


def of_run(run: RunResult) -> str:
    """One run: how it was measured, its stages, tables, balances and peers."""
    parts = [f"### {run.size} users/events", _conditions(run), _stages(run)]
    if stages := run.part("rows", "exact", "private"):
        parts.append(_memory(max(stages, key=lambda stage: stage.memory_total)))
    if run.tables:
        parts.append(_tables(run))
    if run.balances:
        parts.append(_balances(run))
    if run.peers:
        parts.append(_peers(run))
    if run.ratios:
        parts.append(_ratios(run.ratios))
    if run.facts:
        parts.append("; ".join(f"{name}: {value}" for name, value in run.facts.items()) + ".")
    return "\n\n".join(parts)


def put(document: Path, text: str) -> None:
    """Replace what stands between the marks of a document.

    Raises:
        SystemExit: it has not both marks, in order.
    """
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{document} has no marks: put {BEGIN} and {END} around the place of the tables")
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    marks = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, marks, *rows))


def _conditions(run: RunResult) -> str:
    kept = {name: value for name, value in run.machine.items() if name not in ("load_at_start",)}
    text = ", ".join(
        f"{value}" if name == "processor" else f"{name.replace('_', ' ')} {value}" for name, value in kept.items()
    )
    state = "" if run.complete else " **Not complete.**"
    sizes = ", ".join(f"{name} {_bytes(size)}" for name, size in run.files.items())
    return (
        f"{text}; load {run.machine.get('load_at_start', '?')} at the start. Files ({run.format}): {sizes}; events "
        f"of {run.days} days. In none of the stages: session start {run.session_seconds:.1f} s, its first task "
        f"{run.first_task_seconds:.1f} s.{state}"
    )


def _stages(run: RunResult) -> str:
    headings = ["stage", "rows", "s", "rows/s", "CPU s", *(f"{group} s" for group in Group), "peak memory",
                "peak disk", "database", "WAL"]  # fmt: skip
    rows = [_stage(stage) for stage in run.stages]
    rows += [_sum(run, label, parts) for label, parts in _SUMS.items()]
    return table(headings, rows)


_SUMS = {"**row path**": ("rows",), "**all aggregates**": ("exact", "private"), "**all**": ("rows", "exact", "private")}


def _stage(stage: StageResult) -> list[str]:
    if stage.error:
        return [stage.name, f"{stage.rows:,}", f"failed: {stage.error}", *["–"] * 10]
    return [
        stage.name,
        f"{stage.rows:,}",
        f"{stage.seconds:.1f}",
        f"{stage.rate:,.0f}",
        _seconds(stage.cpu_total),
        *(_seconds(stage.cpu.get(group, 0)) for group in Group),
        _bytes(stage.memory_total),
        _bytes(stage.disk),
        _bytes(stage.database),
        _bytes(stage.wal),
    ]


def _sum(run: RunResult, label: str, parts: Sequence[str]) -> list[str]:
    stages = run.part(*parts)
    seconds = sum(stage.seconds for stage in stages)
    return [
        label,
        f"{run.events:,} events",
        f"{seconds:.1f}",
        f"{run.events / seconds:,.0f}" if seconds else "–",
        _seconds(sum(stage.cpu_total for stage in stages)),
        *(_seconds(sum(stage.cpu.get(group, 0) for stage in stages)) for group in Group),
        _bytes(max((stage.memory_total for stage in stages), default=0)),
        _bytes(max((stage.disk for stage in stages), default=0)),
        _bytes(stages[-1].database if stages else 0),
        _bytes(sum(stage.wal for stage in stages)),
    ]


def _memory(stage: StageResult) -> str:
    held = ", ".join(f"{group} {_bytes(size)}" for group, size in stage.memory.items())
    return f"Most memory, {_bytes(stage.memory_total)}, was held in {stage.name}: {held}."


def _tables(run: RunResult) -> str:
    """The large tables, and all others in one row."""
    whole = sum(t.table + t.indexes for t in run.tables)
    large = [t for t in run.tables if t.table + t.indexes >= _LARGE * whole]
    rows = [
        [f"`{t.name}`", f"{t.rows:,}", _bytes(t.table), _bytes(t.indexes),
         f"{(t.table + t.indexes) / t.rows:,.0f}" if t.rows else "–"]
        for t in large
    ]  # fmt: skip
    if rest := [t for t in run.tables if t not in large]:
        table_bytes, index_bytes = sum(t.table for t in rest), sum(t.indexes for t in rest)
        rows.append(
            [f"{len(rest)} others", f"{sum(t.rows for t in rest):,}", _bytes(table_bytes), _bytes(index_bytes), ""]
        )
    return table(["table", "rows", "table", "indexes", "bytes a row"], rows)


def _balances(run: RunResult) -> str:
    rows = [
        [balance.stage, f"{balance.read:,}",
         ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in balance.became.items() if count) or "–",
         f"{balance.difference:,}"]
        for balance in run.balances
    ]  # fmt: skip
    return table(["stage", "rows read", "became", "missing"], rows)


def _peers(run: RunResult) -> str:
    rows = [
        [peer.name, f"{peer.rows:,}", f"failed: {peer.error}", *["–"] * 5]
        if peer.error
        else [peer.name, f"{peer.rows:,}", f"{peer.seconds:.1f}", f"{peer.rate:,.0f}",
              _seconds(peer.cpu_total) if peer.cpu else "–",
              _bytes(peer.memory_total), _bytes(peer.disk), _bytes(peer.wal)]
        for peer in run.peers
    ]  # fmt: skip
    return table(["peer", "rows", "s", "rows/s", "CPU s", "peak memory", "peak disk", "WAL"], rows)


def _ratios(ratios: Sequence[Ratio]) -> str:
    rows = [
        [ratio.name.replace("  ", "– ", 1) if ratio.name.startswith("  ") else ratio.name,
         "not measured" if ratio.value is None else f"{ratio.value:.2f}",
         "" if ratio.limit is None else f"≤ {ratio.limit:g}",
         {True: "met", False: "**missed**", None: ""}[ratio.met]]
        for ratio in ratios
    ]  # fmt: skip
    return table(["ratio of seconds", "measured", "target", ""], rows)


def _growth(runs: Sequence[RunResult], found: Sequence[Growth]) -> str:
    sizes = [run.size for run in runs]
    steps = [f"{sizes[n]} → {sizes[n + 1]}" for n in range(len(sizes) - 1)]
    rows = [[each.name, *(f"{m:.2f}" for m in each.micros), *map(_factor, each.factors)] for each in found]
    memory = [max((stage.memory_total for stage in run.stages), default=0) for run in runs]
    disk = [max((stage.disk for stage in run.stages), default=0) for run in runs]
    rows.append(["most memory of all processes", *map(_bytes, memory), *_ratio_cells(memory)])
    rows.append(["most bytes on disk", *map(_bytes, disk), *_ratio_cells(disk)])
    events = ", ".join(short(run.events) for run in runs)
    return (
        f"### Growth, {events} events\n\nMicroseconds a row at each size, and from size to size how many times as long "
        f"a row takes; at most {_LINEAR:g} is what was demanded.\n\n" + table(["stage", *sizes, *steps], rows)
    )


def _factor(factor: float) -> str:
    return f"{factor:.2f}" if factor <= _LINEAR else f"**{factor:.2f}**"


def _ratio_cells(sizes: Sequence[int]) -> Iterator[str]:
    for before, after in pairwise(sizes):
        yield f"× {after / before:.2f}" if before else "–"


def _plots(images: str, *, peers: bool, grows: bool) -> str:
    named = [
        ("Time of each stage by size", "pipeline_growth.svg", grows),
        ("Share of each stage", "pipeline_share.svg", True),
        ("Processor time by group of processes", "pipeline_cpu.svg", True),
        ("Time a row beside the peers", "pipeline_peers.svg", peers),
    ]
    return "\n\n".join(f"![{text}]({images}/{file})" for text, file, there in named if there)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}"


def _bytes(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}" if size < 100 * unit else f"{size / unit:.0f} {name}"
    return f"{size} B"
