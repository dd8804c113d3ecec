"""The leak finder: nothing on a clean release, a violating case for each test, and what may coincide."""

from dataclasses import fields

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from privacy_platform.anonymization.leaks import Leak, LeakFinderError, OutputRule, find_leaks
from privacy_platform.anonymization.own_values import occurs
from privacy_platform.anonymization.techniques import Secrets, Technique

SECRETS = Secrets("a1" * 32, "b2" * 32, "c3" * 32)
PARSE = TypeAdapter(Technique).validate_python
N = 200
RAW = pl.DataFrame(
    {
        "user_id": [f"user_{n:06d}" for n in range(N)],
        "email": [f"person{n}@example.com" for n in range(N)],
        "last_name": [["West", "Premium", "Müller", "Young"][n % 4] + ("" if n < 8 else f"son{n}") for n in range(N)],
        "age": [n % 90 for n in range(N)],
        "city": [["San Diego", "Berlin"][n % 2] for n in range(N)],
        "ip": [f"10.{n}.3.{n % 5}" for n in range(N)],
        "phone": [f"619-555-{n:04d}" for n in range(N)],
        "zip": [f"{90000 + n}" for n in range(N)],
        "active": [True, False] * (N // 2),
        "note": [f"my shoes no {n}, person{n}@example.com" for n in range(N)],
        "tier": [["free", "premium"][n % 2] for n in range(N)],
    }
)
POLICY = {
    "user_token": ("user_id", {"name": "tokenize"}),
    "email_hash": ("email", {"name": "hmac"}),
    "name_hash": ("last_name", {"name": "hash"}),
    "age_group": ("age", {"name": "bucket", "edges": [0, 18, 65]}),
    "region": ("city", {"name": "generalize", "hierarchy": "city", "level": "region"}),
    "network": ("ip", {"name": "mask", "kind": "ip"}),
    "phone": ("phone", {"name": "mask", "kind": "phone"}),
    "zip": ("zip", {"name": "mask", "kind": "zip"}),
    "note": ("note", {"name": "scrub", "own": ["last_name"]}),
    "tier": ("tier", {"name": "keep"}),
}
TECHNIQUES = {column: PARSE(spec) for column, (_, spec) in POLICY.items()}
CONTEXT = {name: pl.col(name) for name in RAW.columns}
OUT = RAW.select(
    TECHNIQUES[column].expr(pl.col(field), secrets=SECRETS, context=CONTEXT).alias(column)
    for column, (field, _) in POLICY.items()
).with_columns(count=pl.lit(1))
RULES = {column: technique.output_rule() for column, technique in TECHNIQUES.items()}
RULES["tier"] = OutputRule(allowed=frozenset({"free", "premium"}))
SENSITIVE = ["user_id", "email", "last_name", "age", "city", "ip", "phone", "zip", "active"]


def leaks_of(out: pl.DataFrame, rules=None, sensitive=SENSITIVE, raw=RAW) -> list[Leak]:
    return find_leaks(raw, out, sensitive=sensitive, outputs=rules or RULES)


def changed(column: str, rows: dict[int, str]) -> pl.DataFrame:
    return OUT.with_columns(OUT[column].clone().scatter(list(rows), list(rows.values())))


def test_a_clean_release_has_none():
    assert leaks_of(OUT) == []


def test_empty_batch():
    assert leaks_of(OUT.clear(), raw=RAW.clear()) == []


def test_shape():
    assert leaks_of(changed("email_hash", {3: "zz", 5: "f" * 63})) == [Leak("email_hash", "shape", None, None, 2)]
    assert leaks_of(changed("age_group", {0: "12"})) == [Leak("age_group", "shape", None, None, 1)]
    assert leaks_of(changed("region", {0: "Atlantis", 1: "Atlantis"})) == [Leak("region", "shape", None, None, 2)]
    assert leaks_of(changed("user_token", {0: OUT["user_token"][0] + "\n"}))[0].kind == "shape"


def test_pattern():
    assert leaks_of(changed("note", {7: "write to somebody@else.example"})) == [
        Leak("note", "pattern", None, "email", 1)
    ]
    assert leaks_of(changed("tier", {7: "call (212) 555-0100"})) == [Leak("tier", "pattern", None, "phone", 1)]


def test_a_column_without_a_rule_is_scanned():
    out = OUT.with_columns(surprise=RAW["email"])
    found = leaks_of(out)
    assert Leak("surprise", "pattern", None, "email", N) in found
    assert Leak("surprise", "raw_value", "email", None, N) in found


def test_raw_value_of_another_record():
    assert leaks_of(changed("note", {0: "MÜLLER"})) == [Leak("note", "raw_value", "last_name", None, 1)]
    assert leaks_of(changed("tier", {0: "user_000100"})) == [Leak("tier", "raw_value", "user_id", None, 1)]


@pytest.mark.parametrize("text", ["ask Youngson7x", "ask Youngson11 now", "x=%20YOUNGSON11+y", "?n=youngson11&m"])
def test_own_value_inside_text(text):
    found = leaks_of(changed("note", {11: text}))
    assert found == ([] if "7x" in text else [Leak("note", "raw_value", "last_name", None, 1)])


def test_own_value_is_whole_word_and_of_the_same_record():
    assert leaks_of(changed("note", {11: "the youngson11s"})) == []
    assert leaks_of(changed("note", {11: "ask youngson15 now"})) == []


def test_numbers_and_encoded_values():
    raw = RAW.with_columns(salary=pl.int_range(50_000, 50_000 + N, eager=True), name=pl.lit("José María"))
    rules = RULES | {"zip": OutputRule()}
    out = OUT.with_columns(zip=pl.Series(["50007"] + ["x"] * (N - 1)))
    assert leaks_of(out, rules, ["salary"], raw) == [Leak("zip", "raw_value", "salary", None, 1)]
    out = changed("note", {3: "/q?n=Jos%C3%A9+Mar%C3%ADa"})
    assert leaks_of(out, RULES, ["name"], raw) == [Leak("note", "raw_value", "name", None, 1)]


def test_raw_value_in_a_shaped_column():
    """A raw field that already looks like the output: a hash published twice is still the raw value."""
    digest = "ab" * 32
    raw = RAW.with_columns(key=pl.lit(digest))
    out = OUT.with_columns(email_hash=pl.lit(digest))
    assert leaks_of(out, RULES, ["key"], raw) == [Leak("email_hash", "raw_value", "key", None, N)]


def test_misshapen_values_are_searched_too():
    found = leaks_of(changed("email_hash", {3: "person3@example.com", 4: "see user_000004"}))
    assert found == [
        Leak("email_hash", "shape", None, None, 2),
        Leak("email_hash", "pattern", None, "email", 1),
        Leak("email_hash", "raw_value", "user_id", None, 1),
        Leak("email_hash", "raw_value", "email", None, 1),
    ]


def test_coincidences_are_no_leaks():
    assert "West" in OUT["region"].to_list()
    assert "West" in RAW["last_name"].to_list()
    assert RAW["ip"].is_in(OUT["network"].to_list()).any(), "a raw network address equals its mask"
    found = leaks_of(OUT, RULES | {"tier": OutputRule()})
    assert found == [Leak("tier", "raw_value", "last_name", None, N // 2)], "why kept labels are declared"


def test_categories_are_text():
    out = OUT.with_columns(tier=RAW["email"].cast(pl.Categorical))
    assert Leak("tier", "raw_value", "email", None, N) in leaks_of(out)


def test_refusals():
    with pytest.raises(LeakFinderError, match="one for one"):
        leaks_of(OUT.head(3))
    with pytest.raises(LeakFinderError, match="'salary'"):
        leaks_of(OUT, RULES, ["salary"])
    with pytest.raises(LeakFinderError, match="'tags'"):
        leaks_of(OUT.with_columns(tags=pl.lit([["a"]]).implode()))


def test_a_leak_holds_no_value():
    assert [field.name for field in fields(Leak)] == ["column", "kind", "field", "pattern", "rows"]
    found = leaks_of(OUT.with_columns(note=RAW["email"]))
    assert found
    assert "example.com" not in repr(found)


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(0, N - 1),
    column=st.sampled_from(["note", "tier", "email_hash", "user_token", "phone", "zip"]),
    field=st.sampled_from(["user_id", "email", "ip", "phone", "zip"]),
    change=st.sampled_from([str, str.upper, lambda value: f"so {value}, yes", lambda value: f"({value})"]),
)
def test_any_own_value_put_anywhere_is_found(row, column, field, change):
    found = leaks_of(changed(column, {row: change(RAW[field][row])}))
    assert any(leak.column == column for leak in found)
    ip_is_its_network = field == "ip" and RAW["ip"][row].endswith(".0")
    assert ip_is_its_network or any(leak.field == field for leak in found if leak.kind == "raw_value")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), min_size=1, max_size=6))
def test_equality_agrees_with_a_plain_loop(rows):
    raw = pl.DataFrame({"f": [value for value, _ in rows]}, schema={"f": pl.String})
    texts = [text for _, text in rows[:-1]] + [rows[0][0]]
    out = pl.DataFrame({"o": texts}, schema={"o": pl.String})
    values = {value.lower() for value in raw["f"] if len(value) >= 4}
    expected = sum(text.lower() in values for text in texts)
    found = [leak.rows for leak in find_leaks(raw, out, sensitive=["f"], outputs={}) if leak.kind == "raw_value"]
    assert (found[0] if found else 0) >= expected


WORDS = ["anna", "Anna", "anna b", "nna b", "ann", "bert", "üli x", "北京市", "北京", "a-b-c", "anna+b"]


@example([("anna b", ["anna+b"])])
@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), max_size=2)), min_size=1, max_size=8)
)
def test_few_texts_agree_with_a_plain_loop(rows):
    values, texts = [value for value, _ in rows], [" ".join(words) for _, words in rows]
    told = [len(value) >= 4 or value == "北京市" for value in values]
    equal = {value.lower() for value, long in zip(values, told, strict=True) if long}
    expected = sum(
        text.lower() in equal or (long and occurs(text, value))
        for value, text, long in zip(values, texts, told, strict=True)
    )
    raw, out = pl.DataFrame({"f": values * 9}), pl.DataFrame({"o": texts * 9}, schema={"o": pl.String})
    found = [leak.rows for leak in find_leaks(raw, out, sensitive=["f"], outputs={}) if leak.kind == "raw_value"]
    assert sum(found) == expected * 9
