"""The plots of docs/benchmarks.md, drawn from results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measuring import svg
from benchmarks.measuring.processes import Group
from benchmarks.measuring.results import RunResult, growth

__all__ = ["draw"]


def draw(runs: Sequence[RunResult], folder: Path) -> list[Path]:
    """Write the plots that the runs have figures for; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"pipeline_share.svg": _share(runs), "pipeline_cpu.svg": _cpu(runs[-1])}
    if len(runs) > 1:
        texts["pipeline_growth.svg"] = _growth(runs)
    if beside := [run for run in runs if run.peers]:
        texts["pipeline_peers.svg"] = _peers(beside[-1])
    paths = []
    for name, text in texts.items():
        paths.append(folder / name)
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def _growth(runs: Sequence[RunResult]) -> str:
    found = growth(runs)
    series = {run.size: [each.micros[number] for each in found] for number, run in enumerate(runs)}
    return svg.grouped("Time a row by size of the run", "microseconds a row that the stage reads",
                       [each.name for each in found], series)  # fmt: skip


def _share(runs: Sequence[RunResult]) -> str:
    names = list(dict.fromkeys(stage.name for run in runs for stage in run.part("rows", "exact", "private")))

    def part(run: RunResult, name: str) -> float:
        stage = run.stage(name)
        spent = sum(each.seconds for each in run.part("rows", "exact", "private"))
        return 100 * stage.seconds / spent if stage and not stage.error and spent else 0.0

    series = {name: [part(run, name) for run in runs] for name in names}
    return svg.stacked("Where the time goes", "percent of the seconds of all stages but generating",
                       [run.size for run in runs], series)  # fmt: skip


def _cpu(run: RunResult) -> str:
    stages = run.part("rows", "exact", "private")
    series = {group.value: [stage.cpu.get(group, 0.0) for stage in stages] for group in Group}
    return svg.stacked(f"Who computes, {run.size} users/events", "processor seconds by group of processes",
                       [stage.name for stage in stages], series)  # fmt: skip


def _peers(run: RunResult) -> str:
    """Microseconds an event, all stages of a way together."""
    ours = run.seconds(["raw_events", "anonymized_events"])
    ways: Mapping[str, float | None] = {
        "ours (sealed, checked, indexed)": ours / run.events * 1e6 if ours is not None else None,
        **{
            peer.name.removesuffix(", events"): None if peer.error else peer.micros
            for peer in run.peers
            if peer.name.endswith(", events")
        },
    }
    rows = list(ways)
    return svg.grouped(f"Events into PostgreSQL, {run.size} users/events", "microseconds an event",
                       rows, {"events": [ways[row] for row in rows]})  # fmt: skip
