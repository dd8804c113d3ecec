"""The benchmark of the search: what it reads is what lies there, and its figures are those of the search."""

import json
import sys

import numpy as np

from benchmarks import k_anonymity
from privacy_platform.anonymization.kanonymity.lattice import global_recoding
from privacy_platform.anonymization.kanonymity.requirements import Requirements


def test_a_folder_in_the_form_of_arx(tmp_path):
    (tmp_path / "people.csv").write_text("town;age;note\nUlm;7;x\nBonn;8;y\nUlm;7;z\n", encoding="utf-8")
    (tmp_path / "people_hierarchy_age.csv").write_text("7;low;*\n8;low;*\n9;high;*\n", encoding="utf-8")
    (tmp_path / "people_hierarchy_town.csv").write_text("Bonn;*\nUlm;*\n", encoding="utf-8")
    name, tuples, ladders = k_anonymity.table(tmp_path)
    assert name == "people"
    assert [one.name for one in ladders] == ["town", "age"]
    assert tuples.codes.tolist() == [[0, 1], [1, 0]]
    assert tuples.counts.tolist() == [1, 2]
    assert global_recoding(tuples, ladders, Requirements(3)).loss == (1 + 1 / 2) / 2


def test_the_population_has_its_records_and_is_the_same_every_time():
    tuples, ladders = k_anonymity.population(3000)
    assert tuples.records == 3000
    assert len(np.unique(tuples.codes, axis=0)) == len(tuples.counts)
    assert (tuples.codes.max(axis=0) < [len(one.codes[0]) for one in ladders]).all()
    assert (k_anonymity.population(3000)[0].codes == tuples.codes).all()


def test_results_are_saved(tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["k_anonymity", "--records", "2000", "--runs", "1", "--json", str(out)])
    k_anonymity.main()
    found = json.loads(out.read_text(encoding="utf-8"))["found"]
    expected = global_recoding(*k_anonymity.population(2000), Requirements(5, suppression_limit=0.05))
    assert len(found) == 3
    assert found[2]["loss"] == round(expected.loss, 5)
    assert found[2]["evaluated"] == expected.checked
