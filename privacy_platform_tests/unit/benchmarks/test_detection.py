"""The detection benchmark: both forms of labels, figures by hand, a fit that finds the truth."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.detection import Scored, fit, generated, read_labels, score, summary

COLUMNS = [
    {"table": "t", "name": "email", "values": ["a@example.org", None, "b@example.org"], "label": "email"},
    {"table": "t", "name": "price", "values": [1, 2.5], "label": "none"},
]


def test_labels_of_a_folder_of_csv_files(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("email,price\na@example.org,1\nb@example.org,2\n", encoding="utf-8")
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"t": {"email": "email", "price": "none"}}), encoding="utf-8")

    ((table, wanted),) = read_labels(labels, 1)

    assert wanted == ["email", "none"]
    assert [list(column.values) for column in table.columns] == [["a@example.org"], ["1"]]


@pytest.mark.parametrize(
    "document",
    [
        COLUMNS,
        {"t": {c["name"]: {"values": c["values"], "label": c["label"]} for c in COLUMNS}},
        {"t": {"columns": {c["name"]: {"samples": c["values"], "sensitive": c["label"] != "none"} for c in COLUMNS}}},
    ],
)
def test_labels_with_values(tmp_path: Path, document: object) -> None:
    labels = tmp_path / "columns.json"
    labels.write_text(json.dumps(document), encoding="utf-8")

    scored = score(read_labels(labels))

    assert [s.wanted for s in scored] == [s.personal for s in scored] == [True, False]


def test_the_figures() -> None:
    scored = [
        Scored("t", "a", "email", "email", 0.95),
        Scored("t", "b", "phone", "none", 0.65),
        Scored("t", "c", "none", "city", 0.55),
        Scored("t", "d", "none", "none", 0.97),
    ]

    result = summary(scored)

    assert result["personal"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert result["type_accuracy"] == 0.5
    assert result["types"]["email"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "columns": 1}
    assert {"label": "phone", "found": "none", "columns": 1} in result["confusions"]
    assert [line["right"] for line in result["calibration"]] == [0.0, 0.0, 1.0]


def test_the_fit_finds_slope_and_shift() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 4000)
    wanted = random.random(4000) < 1 / (1 + np.exp(-(0.5 * logits + 0.3)))
    shown = 1 / (1 + np.exp(-logits))
    scored = [
        Scored("t", "c", "email" if want else "none", "email" if p >= 0.5 else "none", float(max(p, 1 - p)))
        for want, p in zip(wanted, shown, strict=True)
    ]

    slope, shift = fit(scored)

    assert slope == pytest.approx(0.5, abs=0.05)
    assert shift == pytest.approx(0.3, abs=0.1)


def test_generated_tables_are_told_apart() -> None:
    tables = list(generated(80, held_out=False, seed=1))

    assert [t for t, _ in tables] == [t for t, _ in generated(80, held_out=False, seed=1)]
    assert summary(score(tables))["personal"]["f1"] >= 0.9
