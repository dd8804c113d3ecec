"""Policy files: what is wrong is named by file, field and mend, and one bad file never takes the others with it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from privacy_platform import settings
from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness
from privacy_platform.errors import SettingsError
from privacy_platform.policy.compile import aggregate_table, anonymized_table, published_type, raw_table
from privacy_platform.policy.load import (
    InvalidPolicy,
    PolicySet,
    load_policies,
    read_policy,
)
from privacy_platform.policy.model import DatasetPolicy, printable_name

Document = dict[str, Any]


def clear(**changes: Any) -> Document:
    return {"type": "string", "sensitivity": "none", "technique": "keep", "comment": "c", **changes}


PEOPLE: Document = {
    "dataset": "people",
    "description": "People.",
    "source": {"files": ["people*"]},
    "subject": "id",
    "key": "id",
    "fields": {
        "id": clear(sensitivity="high", technique="tokenize", output="token"),
        "name": clear(sensitivity="high", technique="hmac"),
        "born": clear(type="date", technique={"truncate": {"unit": "year"}}),
    },
}
ACTS: Document = {
    "dataset": "acts",
    "description": "What people do.",
    "source": {"files": ["acts*"]},
    "subject": "id",
    "key": "act",
    "on_duplicate": "first",
    "partition_by": {"field": "at", "start": "2026-01-01"},
    "references": {"dataset": "people"},
    "fields": {
        "act": clear(),
        "id": clear(sensitivity="high", technique="tokenize", output="token"),
        "at": clear(type="timestamp"),
        "words": clear(sensitivity="medium", technique={"scrub": {"own": ["id", "subject.name"]}}),
    },
}
COUNTS: Document = {
    "aggregate": "counts",
    "description": "Acts by day.",
    "source": "anonymized_acts",
    "unit": "token",
    "join": {"table": "anonymized_people", "by": "token", "columns": ["born"]},
    "derive": {"seconds": {"span": "at", "by": "act"}},
    "dimensions": {"day": {"column": "at", "truncate": "day", "required": True, "comment": "c"}},
    "measures": {"acts": {"kind": "count", "comment": "c"}},
}


def model(unlisted: str | None = None, **settings: Any) -> Callable[[Document], None]:
    """A change that adds a privacy model, and perhaps a quasi-identifier that it does not list."""

    def change(document: Document) -> None:
        document["privacy_model"] = {"k": 2, "quasi_identifiers": ["born"], **settings}
        if unlisted:
            document["fields"][unlisted] = clear(role="quasi_identifier")

    return change


def message_of(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    policy = read_policy(path)
    assert isinstance(policy, InvalidPolicy)
    assert policy.path == path
    return policy.message


def put(path: str, value: Any) -> Callable[[Document], None]:
    """A change of a document: sets `a/b/c`, or removes it when the value is None."""

    def change(document: Document) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            document = document[parent]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return change


def changed(document: Document, *changes: Callable[[Document], None]) -> Document:
    result = copy.deepcopy(document)
    for change in changes:
        change(result)
    return result


def folder_of(folder: Path, *documents: Document) -> PolicySet:
    folder.mkdir(exist_ok=True)
    for document in documents:
        name = document.get("dataset") or document["aggregate"]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
    return load_policies([folder])


@pytest.mark.parametrize(
    ("content", "named", "mend"),
    [
        (b"dataset: \xff", "people.yaml", "UTF-8"),
        (b"dataset: p\x00", "people.yaml", "characters that YAML does not allow"),
        ("dataset: p\ndataset: q\n", "people.yaml, line 2", "`dataset` is written twice"),
        ("fields:\n  a: {type: string}\n  a: {type: date}\n", "people.yaml, line 3", "`a` is written twice"),
        ("? [a]\n: b\n", "people.yaml, line 1", "not text"),
        ("a:\n\t- b", "people.yaml, line 2", "not valid YAML"),
        ("start: 2026-13-45", "people.yaml", "not valid YAML"),
        ("", "people.yaml", "a mapping"),
        ("- a\n- b\n", "people.yaml", "a mapping"),
        ("description: none of both", "people.yaml", "exactly one"),
        ("dataset: a\naggregate: b", "people.yaml", "exactly one"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, content: str | bytes, named: str, mend: str) -> None:
    message = message_of(tmp_path / "people.yaml", content)
    assert message.startswith(named)
    assert mend in message


@pytest.mark.parametrize(
    ("change", "named", "mend"),
    [
        (put("fields/name/technique", None), "fields.name.technique", "is missing; add it"),
        (put("fields/name/sensitivity", None), "fields.name.sensitivity", "is missing; add it"),
        (put("fields/name/technique", "hmca"), "fields.name.technique", "'hmac'"),
        (put("fields/name/technique", {"hmac": {"salt": 1}}), "hmac.salt", "is not a setting"),
        (put("fields/name/technique", {"bucket": {"edges": [3, 2]}}), "fields.name.technique", "ascend"),
        (put("fields/name/technique", "mask"), "fields.name.technique.mask", "kind"),
        (put("fields/name/sensitivity", "hgih"), "fields.name.sensitivity", "'high'"),
        (put("fields/name/type", "text"), "fields.name.type", "'string'"),
        (put("fields/name/pi", "x"), "fields.name.pi", "is not a setting; remove it or correct its name"),
        (put("fields/Full Name", clear()), "Full Name", "small letters"),
        (put("fields", {}), "fields", "at least 1"),
        (put("filds", {}), "filds", "is not a setting"),
        (put("subject", "who"), "subject", "no field `who`"),
        (put("key", "who"), "key", "no field `who`"),
        (put("subject", "born"), "fields.born", "must be of type string"),
        (put("fields/id/technique", "hmac"), "fields.id", "`technique: tokenize`"),
        (put("fields/id/sensitivity", "low"), "fields.id", "high or medium"),
        (put("key", "name"), "fields.name", "must be the subject or of sensitivity low or none"),
        (put("fields/name/output", "token"), "fields.name", "taken by id"),
        (put("fields/name/output", "anonymized_at"), "fields.name", "taken by (added by the platform)"),
        (put("fields/token", clear(output="other")), "fields.id", "name another one"),
        (put("fields/sealed", clear()), "fields.sealed", "name the field otherwise"),
        (put("fields/landing_line", clear()), "fields.landing_line", "name the field otherwise"),
        (put("fields/born/technique", {"truncate": {"unit": "hour"}}), "fields.born", "does not fit type date"),
        (put("fields/name/technique", {"truncate": {"unit": "day"}}), "fields.name", "does not fit type string"),
        (put("fields/born/technique", {"suppress": {"value": "*"}}), "fields.born", "leave `value` out"),
        (put("fields/name/technique", {"scrub": {"own": ["who"]}}), "fields.name", "`who`, which is not a field"),
        (put("fields/name/technique", {"scrub": {"own": ["subject.name"]}}), "fields.name", "`references`"),
        (put("partition_by", {"field": "born", "start": "2026-01-01"}), "on_duplicate", "`first`"),
        (put("privacy_model", {"k": 1, "quasi_identifiers": ["born"]}), "privacy_model.k", "2"),
        (put("privacy_model", {"k": 2, "quasi_identifiers": ["age"]}), "quasi_identifiers", "`age` is not an output"),
        (model(quasi_identifiers=["born", "born"]), "quasi_identifiers", "named twice"),
        (model(quasi_identifiers=["token"]), "quasi_identifiers", "`token` is the pseudonym"),
        (model(sensitive={"age": {"l": 2}}), "privacy_model.sensitive", "`age` is not an output"),
        (model(sensitive={"born": {"l": 2}}), "privacy_model", "`born` is either"),
        (model(sensitive={"name": {}}), "sensitive.name", "give `l`, `t` or both"),
        (model(sensitive={"name": {"l": 2, "c": 3}}), "sensitive.name", "`c` belongs to `diversity: recursive`"),
        (model(sensitive={"name": {"l": 2, "diversity": "recursive"}}), "sensitive.name", "`c` belongs to"),
        (model(sensitive={"name": {"l": 2.5}}), "sensitive.name", "whole number"),
        (model(sensitive={"name": {"t": 1.5}}), "sensitive.name.t", "1"),
        (model(recoding="mixed"), "recoding", "global"),
        (model("city"), "fields.city", "k must hold over it"),
        (put("fields/name/column", "born"), "fields", "two fields read the column `born`"),
        (put("fields/name/column", "two\nlines"), "fields.name.column", "form that is not allowed"),
        (put("fields/name/visible_to", "everybody"), "fields.name.visible_to", "analyst"),
        (put("source/position", "nowhere"), "source.position", "no field `nowhere`"),
        (put("source/position", "born"), "fields.born", "must be of type string"),
        (put("owners", ["nobody"]), "owners", "form that is not allowed"),
    ],
)
def test_mistakes_in_a_dataset_are_named(
    tmp_path: Path, change: Callable[[Document], None], named: str, mend: str
) -> None:
    message = message_of(tmp_path / "people.yaml", yaml.safe_dump(changed(PEOPLE, change)))
    assert message.startswith("people.yaml: ")
    assert named in message
    assert mend in message


@pytest.mark.parametrize(
    ("change", "named", "mend"),
    [
        (put("fields/act/technique", "suppress"), "fields.act", "the key must be published"),
        (put("partition_by/field", "act"), "partition_by.field", "not a field of type timestamp"),
        (put("fields/at/sensitivity", "medium"), "fields.at", "low or none"),
        (put("fields/at/technique", {"truncate": {"unit": "month"}}), "fields.at", "the day or less"),
        (put("fields/at/technique", "hmac"), "fields.at", "must keep its day"),
        (put("fields/at/technique", "suppress"), "fields.at", "published"),
        (put("source/topic", "acts of people"), "source.topic", ""),
    ],
)
def test_mistakes_in_a_partitioned_dataset_are_named(
    tmp_path: Path, change: Callable[[Document], None], named: str, mend: str
) -> None:
    message = message_of(tmp_path / "acts.yaml", yaml.safe_dump(changed(ACTS, change)))
    assert named in message
    assert mend in message


@pytest.mark.parametrize(
    ("change", "named", "mend"),
    [
        (put("dimensions/day/required", False), "dimensions.day", "`required: true`"),
        (put("measures/acts/kind", "sum"), "measures.acts", "needs `column`"),
        (put("measures/rate", {"kind": "ratio", "comment": "c"}), "measures.rate", "`numerator` and `denominator`"),
        (
            put("measures/rate", {"kind": "ratio", "numerator": "acts", "denominator": "x", "comment": "c"}),
            "measures.rate",
            "`x` is not a counted",
        ),
        (put("measures/day", {"kind": "count", "comment": "c"}), "measures.day", "dimension has this name"),
        (put("minimum_group_size", 1), "minimum_group_size", "2"),
        (put("measures/acts/once_per", "act"), "measures.acts", "`mean` only"),
        (put("source", "raw_acts"), "source", "reads an anonymized table"),
        (put("unit", "act"), "unit", "`token`"),
        (put("dimensions/day/column", "when"), "`when`", "is not a column"),
        (put("measures/acts/where", {"kind": "x"}), "`kind`", "is not a column"),
        (put("derive/seconds/by", "session"), "`session`", "is not a column"),
        (put("join/table", "people"), "join.table", "no table `people`"),
        (put("join/columns", ["region"]), "join", "no column `region`"),
        (put("join/by", "name"), "join.by", "`token`, the key of"),
        (put("join/columns", ["token"]), "join.columns", "`token` already"),
    ],
)
def test_mistakes_in_an_aggregate_are_named(
    tmp_path: Path, change: Callable[[Document], None], named: str, mend: str
) -> None:
    policies = folder_of(tmp_path, PEOPLE, ACTS, changed(COUNTS, change))
    (invalid,) = policies.invalid
    assert (invalid.name, invalid.is_aggregate) == ("counts", True)
    assert not policies.aggregates
    assert invalid.message.startswith("counts.yaml: ")
    assert named in invalid.message
    assert mend in invalid.message


WINDOWS: Document = {
    "aggregate": "windows",
    "description": "Acts by minute.",
    "source": "anonymized_acts",
    "unit": "token",
    "window": {"column": "at"},
    "dimensions": {"act": {"column": "act", "comment": "c"}},
    "measures": {"acts": {"kind": "count", "comment": "c"}},
}


@pytest.mark.parametrize(
    ("change", "named", "mend"),
    [
        (put("window/column", "act"), "window.column", "not a published timestamp"),
        (put("window/minutes", 0), "window.minutes", "1"),
        (put("join", COUNTS["join"]), "window", "remove `join` and `derive`"),
        (put("dimensions/act/required", True), "window", "neither `truncate` nor `required`"),
        (put("measures/acts/where", {"act": "x"}), "measures.acts", "without `where`"),
        (
            put("measures/acts", {"kind": "sum", "column": "act", "comment": "c"}),
            "measures.acts",
            "`count_distinct` only",
        ),
        (put("measures/is_final", {"kind": "count", "comment": "c"}), "window", "`is_final`"),
    ],
)
def test_mistakes_in_windows_are_named(
    tmp_path: Path, change: Callable[[Document], None], named: str, mend: str
) -> None:
    assert not folder_of(tmp_path / "good", PEOPLE, ACTS, WINDOWS).invalid
    (invalid,) = folder_of(tmp_path / "bad", PEOPLE, ACTS, changed(WINDOWS, change)).invalid
    assert (invalid.name, invalid.is_aggregate) == ("windows", True)
    assert named in invalid.message
    assert mend in invalid.message


@pytest.mark.parametrize(
    ("document", "change", "mend"),
    [
        (PEOPLE, put("on_duplicate", "last"), "keeps the `first` record"),
        (PEOPLE, put("privacy_model", {"k": 2, "quasi_identifiers": ["born"]}), "remove source.topic or privacy_model"),
        (PEOPLE, put("source/position", "id"), "messages have no place in a file"),
    ],
)
def test_what_cannot_be_added_to_has_no_topic(
    tmp_path: Path, document: Document, change: Callable[[Document], None], mend: str
) -> None:
    streamed = changed(changed(document, put("source/topic", "people.v1")), put("on_duplicate", "first"))
    assert not folder_of(tmp_path / "good", streamed).invalid
    (invalid,) = folder_of(tmp_path / "bad", changed(streamed, change)).invalid
    assert mend in invalid.message


def test_windows_have_a_start_and_an_end_of_their_own(tmp_path: Path) -> None:
    policies = folder_of(tmp_path, PEOPLE, ACTS, WINDOWS)
    table = aggregate_table(policies.aggregates["windows"], policies)
    assert [column.name for column in table.columns] == ["window_start", "act", "acts", "is_final"]
    assert table.key == ("window_start", "act")


@pytest.mark.parametrize(
    ("people", "acts", "message"),
    [
        ([], [put("references/dataset", "persons")], "no dataset `persons`"),
        ([put("fields/act", clear()), put("key", "act")], [], "several records a subject"),
        ([], [put("fields/words/technique", {"scrub": {"own": ["subject.born"]}})], "`subject.born`"),
        ([], [put("fields/words/technique", {"scrub": {"own": ["subject.age"]}})], "`subject.age`"),
    ],
)
def test_bad_references_are_named(
    tmp_path: Path,
    people: list[Callable[[Document], None]],
    acts: list[Callable[[Document], None]],
    message: str,
) -> None:
    policies = folder_of(tmp_path, changed(PEOPLE, *people), changed(ACTS, *acts))
    assert list(policies.datasets) == ["people"]
    (invalid,) = policies.invalid
    assert invalid.message.startswith("acts.yaml: ")
    assert message in invalid.message


def test_datasets_that_refer_to_each_other_are_refused(tmp_path: Path) -> None:
    other = changed(PEOPLE, put("dataset", "others"), put("references", {"dataset": "people"}))
    policies = folder_of(tmp_path, changed(PEOPLE, put("references", {"dataset": "others"})), other)
    assert not policies.datasets
    assert "remove one of the references" in policies.invalid[0].message


def test_a_refused_dataset_takes_along_what_depends_on_it(tmp_path: Path) -> None:
    level = {"generalize": {"hierarchy": "city", "level": "street"}}
    policies = folder_of(tmp_path, changed(PEOPLE, put("fields/city", clear(technique=level))), ACTS, COUNTS)
    assert not policies.datasets
    assert not policies.aggregates
    messages = {invalid.name: invalid.message for invalid in policies.invalid}
    assert "has no level 'street'" in messages["people"]
    assert "no dataset `people`" in messages["acts"]
    assert "no table `anonymized_acts`" in messages["counts"]


def test_the_search_chooses_levels_of_quasi_identifiers_only(tmp_path: Path) -> None:
    born = clear(
        type="date", sensitivity="medium", technique={"generalize": {"hierarchy": {"date": ["month", "year"]}}}
    )
    people = changed(PEOPLE, put("fields/born", born))
    assert "fields.born: no search chooses the level" in folder_of(tmp_path, people).invalid[0].message
    searched = changed(people, put("privacy_model", {"k": 2, "quasi_identifiers": ["born"]}))
    policy = folder_of(tmp_path, searched).datasets["people"]
    assert published_type(policy, "born") == "date"


@pytest.mark.parametrize(
    ("technique", "message"),
    [
        ({"hierarchy": {"intervals": {"domain": [0, 9], "every": [0]}}}, "hierarchy.intervals: a width of `every`"),
        ({"hierarchy": {"intervals": {"every": [5]}}}, "hierarchy.intervals.domain is missing"),
        ({"hierarchy": {"date": ["decade"]}}, "hierarchy.date.periods.0: "),
        ({"hierarchy": {"suffix": [1]}}, "hierarchy: "),
        (
            {"hierarchy": {"date": ["day", "year"]}, "from": "day"},
            "level 'day' of a date hierarchy is",
        ),
        ({"hierarchy": {"prefix": [3]}}, "a prefix hierarchy fits fields of type integer, string"),
    ],
)
def test_a_wrong_hierarchy_is_named(tmp_path: Path, technique: Document, message: str) -> None:
    born = clear(type="date", sensitivity="medium", technique={"generalize": technique})
    people = changed(PEOPLE, put("fields/born", born), put("privacy_model", {"k": 2, "quasi_identifiers": ["born"]}))
    said = folder_of(tmp_path, people).invalid[0].message
    assert said.startswith("people.yaml: fields.born")
    assert message in said


@pytest.mark.parametrize(
    ("kind", "digits", "counted", "message"),
    [
        ("string", 0, False, "needs a field of type integer or number"),
        ("integer", 1, False, "an integer has no decimals"),
        ("number", 2, True, "take it out of privacy_model"),
    ],
)
def test_noise_where_it_does_not_fit(tmp_path: Path, kind: str, digits: int, counted: bool, message: str) -> None:
    noise = {"noise": {"epsilon": 1, "lower": 0, "upper": 9, "digits": digits}}
    people = changed(PEOPLE, put("fields/born", clear(type=kind, sensitivity="high", technique=noise)))
    if counted:
        people["privacy_model"] = {"k": 2, "quasi_identifiers": ["born"]}
    said = folder_of(tmp_path, people).invalid[0].message
    assert "fields.born: " in said
    assert message in said


def test_noise_publishes_the_fields_own_type(tmp_path: Path) -> None:
    noise = {"noise": {"epsilon": 1, "lower": 0, "upper": 9}}
    people = changed(PEOPLE, put("fields/born", clear(type="integer", sensitivity="high", technique=noise)))
    policy = folder_of(tmp_path, people).datasets["people"]
    assert published_type(policy, "born") == "bigint"
    assert not policy.unprotected_fields()


def test_a_good_folder_and_one_bad_file(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("dataset: broken\nfields: {a: {start: 2026-13-45}}")
    policies = folder_of(tmp_path, PEOPLE, ACTS, COUNTS)
    assert sorted(policies.datasets) == ["acts", "people"]
    assert list(policies.aggregates) == ["counts"]
    assert [invalid.name for invalid in policies.invalid] == ["broken"]


def test_the_later_folder_wins_also_with_a_broken_file(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    folder_of(first, PEOPLE)
    folder_of(second, changed(PEOPLE, put("description", "Ours.")))
    assert load_policies([first, second]).datasets["people"].description == "Ours."
    (second / "people.yaml").write_text(yaml.safe_dump(changed(PEOPLE, put("subject", "who"))))
    # Falling back to the other one would publish under a policy its owner has replaced.
    assert not load_policies([first, second]).datasets


def test_a_policy_folder_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.POLICIES_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match=settings.POLICIES_VARIABLE):
        load_policies()


def test_an_invalid_file_is_read_as_its_message(tmp_path: Path) -> None:
    path = tmp_path / "people.yaml"
    path.write_text(yaml.safe_dump(PEOPLE))
    assert isinstance(read_policy(path), DatasetPolicy)
    path.write_text("dataset: people")
    found = read_policy(path)
    assert isinstance(found, InvalidPolicy)
    assert "people.yaml: description is missing; add it" in found.message


def test_the_packaged_policies_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings.POLICIES_VARIABLE, raising=False)
    policies = load_policies()
    assert policies.invalid == ()
    assert {name: len(p.fields) for name, p in policies.datasets.items()} == {"users": 17, "events": 16}
    assert all(policy.unprotected_fields() == () for policy in policies.datasets.values())


@pytest.mark.parametrize("technique", ["keep", {"truncate": {"unit": "day"}}])
@pytest.mark.parametrize("sensitivity", ["high", "medium"])
def test_a_personal_field_let_through_is_unprotected(technique: object, sensitivity: str) -> None:
    field = clear(type="timestamp", sensitivity=sensitivity, technique=technique)
    policy = DatasetPolicy.model_validate(changed(PEOPLE, put("fields/seen", field)))
    assert policy.unprotected_fields() == ("seen",)


@pytest.mark.parametrize("name", ["a" * 64, "maria@example.com", "4111 1111 1111", "x\ny", "", "naïve"])
def test_odd_column_names_are_not_shown(name: str) -> None:
    assert printable_name(name) == "(a name that is not an identifier)"
    assert printable_name("loyalty_points2") == "loyalty_points2"


def test_an_aggregate_is_not_named_like_a_table_of_another_zone(tmp_path: Path) -> None:
    policies = folder_of(tmp_path, PEOPLE, ACTS, changed(COUNTS, put("aggregate", "raw_people")))
    (invalid,) = policies.invalid
    assert "name it otherwise" in invalid.message
    assert not policies.aggregates


def test_k_counts_people_so_a_dataset_of_many_records_a_person_cannot_promise_it() -> None:
    model = {"privacy_model": {"k": 2, "quasi_identifiers": ["words"]}}
    with pytest.raises(ValidationError, match="one record a subject"):
        DatasetPolicy.model_validate(ACTS | model)


def test_what_is_left_of_identifiers_is_for_linkage() -> None:
    fields = PEOPLE["fields"] | {
        "mail": clear(sensitivity="high", role="identifier", technique="hmac"),
        "phone": clear(sensitivity="high", role="identifier", technique="hmac", visible_to="analyst"),
        "town": clear(role="quasi_identifier", visible_to="linkage"),
    }
    fields["id"] = fields["id"] | {"role": "identifier"}
    settings = {"k": 2, "quasi_identifiers": ["born"], "sensitive": {"name": {"l": 3, "t": 0.2}}}
    policy = DatasetPolicy.model_validate(PEOPLE | {"fields": fields, "privacy_model": settings})
    readers = {name: str(policy.reader(name)) for name in policy.outputs()}
    assert {name for name, reader in readers.items() if reader == "linkage"} == {"mail", "town"}
    restricted = {column.name for column in anonymized_table(policy).columns if column.restricted}
    assert restricted == {"mail", "town"}
    assert policy.privacy_model is not None
    assert policy.privacy_model.requirements() == Requirements(2, {"name": (LDiversity(3), TCloseness(0.2))}, 0.01)


def test_source_columns_may_have_names_of_their_own() -> None:
    fields = PEOPLE["fields"] | {"name": clear(sensitivity="high", technique="hmac", column="Name (first, last)")}
    place = {"source": {"files": ["people*"], "position": "id"}}
    policy = DatasetPolicy.model_validate(PEOPLE | {"fields": fields} | place)
    assert policy.source_columns() == {"Name (first, last)": "name", "born": "born"}
    assert "landing_people.Name (first, last)" in raw_table(policy).columns[-1].sources


def test_people_are_all_that_is_counted_distinctly(tmp_path: Path) -> None:
    sessions = {"kind": "count_distinct", "column": "act", "comment": "c"}
    policies = folder_of(tmp_path, PEOPLE, ACTS, changed(COUNTS, put("measures/sessions", sessions)))
    (invalid,) = policies.invalid
    assert "measures.sessions" in invalid.message or "its column must be the unit" in invalid.message
    assert not policies.aggregates


@pytest.mark.parametrize(
    ("changes", "hidden"),
    [
        ({"sensitivity": "high"}, False),
        ({"sensitivity": "medium", "role": "identifier"}, False),
        ({"sensitivity": "medium"}, True),
    ],
)
def test_scrubbing_hides_nothing_of_a_field_that_is_an_identifier(changes: Document, hidden: bool) -> None:
    document = copy.deepcopy(PEOPLE)
    document["fields"]["name"] = clear(technique="scrub", **changes)
    assert DatasetPolicy.model_validate(document).unprotected_fields() == (() if hidden else ("name",))


@pytest.mark.parametrize("name", ["Lovelace", "San Diego", "CA", "maria@example.com", "user_0001234", "12"])
def test_what_may_be_somebodys_value_is_not_shown_as_a_name(name: str) -> None:
    assert printable_name(name) == "(a name that is not an identifier)"
