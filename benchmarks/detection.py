"""How well does the detector tell what is personal, and what it is? Scores any labelled columns, and fits the
calibration.

`--labels FILE` is either the labels of a folder of CSV files, `{table: {column: label}}`, or a JSON of columns with
values: a list of `{name, values, label, table?}`, or `{table: {column: {values, label}}}`. A label is a type of the
detector, `none`, or whether the column is sensitive. Without it, generated tables are scored; `--held-out` takes the
locales and domains that are kept apart. Reported are personal-or-not and each type: precision, recall, F1;
confusions; calibration.
"""

import argparse
import csv
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.common import machine
from benchmarks.detection_tables import HELD_OUT, labelled_tables
from privacy_platform.detection.detector import Column, Table, detect
from privacy_platform.detection.types import PiiType

_NOT = frozenset(
    {"none", "", "no", "false", "0", "non_sensitive", "nonsensitive", "not_sensitive", "non_pii", "null", "other"}
)
_VALUES = ("values", "samples", "sample_values", "records", "data")
_LABELS = ("label", "type", "pii", "sensitive", "is_sensitive", "sensitivity")


@dataclass(frozen=True, slots=True)
class Scored:
    """A column as it was labelled and as the detector saw it."""

    table: str
    column: str
    label: str
    found: str
    confidence: float

    @property
    def wanted(self) -> bool:
        return self.label not in _NOT

    @property
    def personal(self) -> bool:
        return self.found != PiiType.NONE


LabelledTable = tuple[Table, list[str]]


def read_labels(path: Path, limit: int | None = None) -> Iterator[LabelledTable]:
    """Labelled tables of either form; `limit` takes only so many rows of each CSV, spread over the file."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(document, list):
        tables: dict[str, dict[str, Any]] = defaultdict(dict)
        for number, column in enumerate(document):
            name = str(column.get("name", column.get("column", f"column_{number}")))
            tables[str(column.get("table", column.get("table_name", number)))][name] = column
        document = tables
    for name, content in document.items():
        columns = content.get("columns", content) if isinstance(content, dict) else {}
        if not columns:
            continue
        if all(isinstance(label, str | bool | int) or label is None for label in columns.values()):
            yield _from_csv(path.parent / f"{name}.csv", name, columns, limit)
        else:
            yield _from_values(name, {str(c): v for c, v in columns.items() if isinstance(v, dict)})


def _from_csv(file: Path, name: str, labels: Mapping[str, Any], limit: int | None) -> LabelledTable:
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    if limit is not None and len(rows) > limit:
        rows = [rows[i * len(rows) // limit] for i in range(limit)]
    columns = [Column(column, [row[column] or "" for row in rows], len(rows)) for column in labels]
    return Table(name, columns), [_label(label) for label in labels.values()]


def _from_values(name: str, columns: Mapping[str, Mapping[str, Any]]) -> LabelledTable:
    read, labels = [], []
    for column, content in columns.items():
        values: list[Any] = next((content[key] for key in _VALUES if key in content), [])
        texts = ["" if value is None else str(value) for value in values]
        read.append(Column(column, texts, len(texts)))
        labels.append(_label(next((content[key] for key in _LABELS if key in content), "none")))
    return Table(name, read), labels


def _label(label: Any) -> str:
    return str(label).strip().lower().replace(" ", "_").replace("-", "_")


def generated(count: int, *, held_out: bool, seed: int) -> Iterator[LabelledTable]:
    """Generated tables with five values a column."""
    for made in labelled_tables(count, seed):
        if (made.group in HELD_OUT) == held_out:
            columns = [Column(name, values, len(values)) for name, values, _ in made.columns]
            yield Table(made.name, columns), [label for _, _, label in made.columns]


def score(tables: Iterable[LabelledTable]) -> list[Scored]:
    """The detector's word on every labelled column."""
    return [
        Scored(table.name, finding.name, label, str(finding.type), finding.confidence)
        for table, labels in tables
        for finding, label in zip(detect(table), labels, strict=True)
    ]


def rates(hits: int, false: int, missed: int) -> dict[str, float]:
    """Precision, recall and F1."""
    precision = hits / (hits + false) if hits + false else math.nan
    recall = hits / (hits + missed) if hits + missed else math.nan
    f1 = 2 * hits / (2 * hits + false + missed) if hits + false + missed else math.nan
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def summary(scored: list[Scored]) -> dict[str, Any]:
    """All figures of a scoring."""
    both = Counter((s.wanted, s.personal) for s in scored)
    types = {}
    for kind in sorted({s.label for s in scored if s.wanted} & set(PiiType)):
        hits = sum(s.label == kind == s.found for s in scored)
        found, wanted = sum(s.found == kind for s in scored), sum(s.label == kind for s in scored)
        types[kind] = {**rates(hits, found - hits, wanted - hits), "columns": wanted}
    typed = [s for s in scored if s.label in set(PiiType)]
    confusions = Counter((s.label, s.found) for s in typed if s.label != s.found)
    return {
        "columns": len(scored),
        "personal": rates(both[True, True], both[False, True], both[True, False]),
        "type_accuracy": round(sum(s.label == s.found for s in typed) / len(typed), 4) if typed else None,
        "types": types,
        "confusions": [{"label": a, "found": b, "columns": n} for (a, b), n in confusions.most_common(20)],
        "calibration": calibration(scored),
    }


def calibration(scored: list[Scored]) -> list[dict[str, float]]:
    """Of the columns given a confidence, how many are right on personal-or-not."""
    edges = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.001)
    lines = []
    for low, high in pairwise(edges):
        inside = [s for s in scored if low <= s.confidence < high]
        if inside:
            right = sum(s.wanted == s.personal for s in inside) / len(inside)
            mean = sum(s.confidence for s in inside) / len(inside)
            lines.append({"from": low, "columns": len(inside), "confidence": round(mean, 3), "right": round(right, 3)})
    return lines


def fit(scored: list[Scored]) -> tuple[float, float]:
    """Platt's slope and shift for the scores as they are now, by Newton's method on the logistic loss."""
    probability = np.array([s.confidence if s.personal else 1 - s.confidence for s in scored]).clip(1e-3, 1 - 1e-3)
    x, y = np.log(probability / (1 - probability)), np.array([float(s.wanted) for s in scored])
    design, weights = np.stack([x, np.ones_like(x)]), np.array([1.0, 0.0])
    for _ in range(25):
        p = 1 / (1 + np.exp(-(weights @ design)))
        hessian = (design * (p * (1 - p))) @ design.T + 1e-6 * np.eye(2)
        weights = weights - np.linalg.solve(hessian, design @ (p - y))
    return float(weights[0]), float(weights[1])


def show(title: str, result: Mapping[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console(width=120)
    personal = result["personal"]
    console.print(
        f"[bold]{title}[/]: {result['columns']:,} columns; personal or not: precision {personal['precision']}, recall "
        f"{personal['recall']}, F1 {personal['f1']}; type accuracy {result['type_accuracy']}"
    )
    table = RichTable("type", "columns", "precision", "recall", "F1")
    for kind, line in result["types"].items():
        table.add_row(kind, *(str(line[key]) for key in ("columns", "precision", "recall", "f1")))
    console.print(table)
    for line in result["confusions"][:12]:
        console.print(f"  {line['columns']} × {line['label']} taken for {line['found']}", highlight=False)
    for line in result["calibration"]:
        console.print(
            f"  confidence from {line['from']}: {line['right']:.3f} right of {line['columns']}", highlight=False
        )


def main() -> None:
    """Parse the arguments, score, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    parser.add_argument("--labels", type=Path, help="labelled columns; generated ones if not given")
    parser.add_argument("--rows", type=int, help="rows to take of each CSV; all if not given")
    parser.add_argument("--tables", type=int, default=800, help="generated tables")
    parser.add_argument("--held-out", action="store_true", help="only the held-out locales and domains")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--fit", action="store_true", help="print the calibration's slope and shift for these columns")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    options = parser.parse_args()
    if options.labels:
        tables = list(read_labels(options.labels, options.rows))
    else:
        tables = list(generated(options.tables, held_out=options.held_out, seed=options.seed))
    detect(Table("warm-up", [Column("x", ["y"])]))
    begin = time.perf_counter()
    scored = score(tables)
    result = {**summary(scored), "seconds": round(time.perf_counter() - begin, 3), "machine": machine(["polars"])}
    show(options.labels.name if options.labels else "generated", result)
    print(f"{result['seconds']} s")
    if options.fit:
        print("slope {:.3f}, shift {:.3f}".format(*fit(scored)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
