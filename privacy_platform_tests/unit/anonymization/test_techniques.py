"""Techniques: promises held for any input, and the exact forms that users know."""

import hashlib
import hmac
import ipaddress
import math
import re
from collections import Counter
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opendp import prelude as opendp
from pydantic import TypeAdapter, ValidationError

from privacy_platform.anonymization import own_values
from privacy_platform.anonymization.dp.mechanisms import laplace_scale
from privacy_platform.anonymization.hierarchies import HierarchyError
from privacy_platform.anonymization.techniques import (
    Generalize,
    Hmac,
    Secrets,
    Technique,
    TechniqueError,
)
from privacy_platform.errors import PrivacyPlatformError

SECRETS = Secrets(token_key="a1" * 32, hmac_key="b2" * 32, release_salt="c3" * 32)
PARSE = TypeAdapter(Technique).validate_python
AGE = {"name": "bucket", "edges": [0, 18, 25, 35, 45, 55, 65]}
TEXT_SPECS = [
    {"name": "hash"},
    {"name": "hash", "normalize": "casefold", "domain": "name"},
    {"name": "hmac"},
    {"name": "hmac", "normalize": "email", "domain": "email"},
    {"name": "tokenize"},
    {"name": "generalize", "hierarchy": "city", "level": "region"},
    {"name": "generalize", "hierarchy": {"prefix": [3, 2]}, "level": "prefix_2"},
    {"name": "generalize", "hierarchy": {"intervals": {"domain": [0, 99], "every": [10]}}, "level": "level_1"},
    {"name": "mask", "kind": "phone"},
    {"name": "mask", "kind": "zip"},
    {"name": "mask", "kind": "ip"},
    {"name": "suppress"},
    {"name": "suppress", "value": "*"},
    {"name": "scrub"},
]
UNICODE = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.lists(
    st.none()
    | UNICODE
    | st.emails()
    | st.ip_addresses().map(str)
    | st.from_regex(r"[+]?[0-9 ().-]{5,18}", fullmatch=True)
    | st.from_regex(r"[0-9A-Z]{4,9}", fullmatch=True)
    | st.sampled_from(["San Diego", "北京", "😀", "İstanbul", "ẞ", "e\u0301"]),
    max_size=8,
)


def apply(spec, values, *, dtype=None, secrets=SECRETS, **context):
    technique = PARSE(spec)
    frame = pl.DataFrame({"v": pl.Series(values, dtype=dtype)} | context)
    others = {name: pl.col(name) for name in context}
    return frame.select(technique.expr(pl.col("v"), secrets=secrets, context=others).alias("o")).to_series().to_list()


@pytest.mark.parametrize("spec", TEXT_SPECS, ids=lambda spec: "-".join(map(str, spec.values())))
@settings(max_examples=60, deadline=None)
@given(values=VALUES)
def test_promises_for_any_text(spec, values):
    technique = PARSE(spec)
    out = apply(spec, values, dtype=pl.String)
    assert len(out) == len(values)
    assert out == apply(spec, values, dtype=pl.String), "deterministic"
    if values:
        assert out[-1:] == apply(spec, values[-1:], dtype=pl.String), "a row does not depend on its batch"
    vocabulary = technique.vocabulary()
    for value, result in zip(values, out, strict=True):
        if value is None:
            assert result is None or spec.get("value") == "*"
        if result is None:
            continue
        if vocabulary is not None:
            assert result in vocabulary
        if technique.shape is not None:
            assert re.fullmatch(technique.shape, result)
        if spec["name"] != "scrub" and value is not None and not re.fullmatch(technique.shape or r"\*", value):
            assert result != value or (vocabulary is not None and value in vocabulary)


@pytest.mark.parametrize("spec", TEXT_SPECS, ids=lambda spec: "-".join(map(str, spec.values())))
def test_every_technique_says_what_it_does(spec):
    technique = PARSE(spec)
    assert technique.protects
    assert all(sentence.endswith(".") for sentence in (technique.guards, technique.leaves, technique.remains))


@pytest.mark.parametrize("spec", [{"name": "keep"}, {"name": "truncate", "unit": "hour"}])
def test_identity_paths_do_not_claim_to_protect(spec):
    assert not PARSE(spec).protects
    assert PARSE(spec).output_type == "same"
    assert PARSE(spec).output_rule().scanned


# ------------------------------------------------------------------ keyed techniques
def test_token_is_the_documented_hmac():
    digest = hmac.digest(SECRETS.token_key.encode(), b"user_000001", "sha256").hex()
    assert apply({"name": "tokenize"}, ["user_000001"]) == [f"tok_{digest[:32]}"]
    assert apply({"name": "tokenize"}, [42]) == apply({"name": "tokenize"}, ["42"])


def test_domains_do_not_join_and_the_default_is_plain_hmac():
    plain, email, phone = (apply({"name": "hmac", "domain": domain}, ["x"])[0] for domain in (None, "email", "phone"))
    assert len({plain, email, phone}) == 3
    assert plain == hmac.digest(SECRETS.hmac_key.encode(), b"x", "sha256").hex()
    subkey = hmac.digest(SECRETS.hmac_key.encode(), b"domain:email", "sha256").hex()
    assert email == hmac.digest(subkey.encode(), b"x", "sha256").hex()


def test_normalization_joins_spellings_of_one_address():
    spec = {"name": "hmac", "normalize": "email"}
    assert len(set(apply(spec, [" Bob@Example.com", "bob@example.com ", "BOB@EXAMPLE.COM"]))) == 1
    assert len(set(apply({"name": "hmac"}, ["Bob@example.com", "bob@example.com"]))) == 2
    assert len(set(apply({"name": "hash", "normalize": "casefold"}, ["Jose\u0301", "JOSÉ"]))) == 1


KEYED = [
    {"name": "hash"},
    {"name": "hash", "normalize": "email", "domain": "email"},
    {"name": "hmac"},
    {"name": "hmac", "normalize": "email", "domain": "email"},
    {"name": "tokenize"},
]


def guessed(candidates, keys):
    """All that can be computed from candidates with the methods of the platform and the usual ones, under some keys."""
    texts = [candidate.encode() for candidate in candidates]
    found = {method(text).hexdigest() for text in texts for method in (hashlib.sha256, hashlib.sha1, hashlib.md5)}
    found |= {hashlib.sha256(key.encode() + text).hexdigest() for key in keys for text in texts}
    for key in keys:
        subkey = hmac.digest(key.encode(), b"domain:email", "sha256").hex()
        for each in (key.encode(), subkey.encode(), bytes.fromhex(subkey)):
            found |= {hmac.digest(each, text, "sha256").hex() for text in texts}
    return found | {f"tok_{guess[:32]}" for guess in found}


@pytest.mark.parametrize("spec", KEYED, ids=str)
def test_dictionary_attack_fails_without_the_keys(spec):
    """An attacker who knows every candidate address, the method and the policy, but no key, matches nothing."""
    candidates = [f"person{number}@example.com" for number in range(1000)]
    published = set(apply(spec, candidates))
    keys = ["", "secret", "password", "email", "0" * 64, "a1" * 31, "b2" * 33, "c3" * 31, candidates[0], *published]
    assert len(published) == len(candidates)
    assert not published & guessed(candidates, keys[:12])
    secrets = [SECRETS.token_key, SECRETS.hmac_key, SECRETS.release_salt]
    assert published <= guessed(candidates, secrets), "the attack is right: with the keys it succeeds"


def test_releases_cannot_be_linked():
    names = [f"name{number}" for number in range(1000)]
    other = Secrets(SECRETS.token_key, SECRETS.hmac_key, "d4" * 32)
    for spec in ({"name": "hash"}, {"name": "hash", "normalize": "casefold", "domain": "first_name"}):
        assert not set(apply(spec, names)) & set(apply(spec, names, secrets=other))
    assert apply({"name": "hmac"}, names) == apply({"name": "hmac"}, names, secrets=other)


def test_with_the_last_salt_gone_old_hashes_cannot_be_made_again():
    """Who holds all names, both releases and every key that is kept still links nobody across the releases."""
    names = [f"name{number}@example.com" for number in range(300)]
    last = set(apply({"name": "hash"}, names, secrets=Secrets(SECRETS.token_key, SECRETS.hmac_key, "d4" * 32)))
    this = set(apply({"name": "hash"}, names))
    kept = [SECRETS.token_key, SECRETS.hmac_key, SECRETS.release_salt]
    assert this <= guessed(names, kept)
    assert not last & guessed(names, [*kept, *sorted(this)[:5]])


TRICKY = [
    *("Zo\u00eb", "Zoe\u0308", "\u05d3\u05d5\u05d3", "\u202eabc", "\ufb01", "\u1e9e", "\u0130", "\x00", "\ufeffx"),
    *("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea"),
]


@pytest.mark.parametrize("spec", TEXT_SPECS, ids=lambda spec: "-".join(map(str, spec.values())))
def test_text_of_any_script_stays_whole(spec):
    """Combining marks, right-to-left, joined emoji: as texts of their own, whatever stands beside them."""
    out = apply(spec, TRICKY)
    assert out == [apply(spec, [text])[0] for text in TRICKY]
    assert all(text is None or text.encode() for text in out)
    if spec["name"] in ("hash", "hmac", "tokenize"):
        same = spec.get("normalize") == "casefold"
        assert (out[0] == out[1]) == same, "composed and decomposed are one text only where the policy says so"
        assert len(set(out)) == len(TRICKY) - same


def test_secrets_do_not_show():
    assert SECRETS.token_key not in f"{SECRETS!r} {SECRETS}"
    expression = Hmac().expr(pl.col("v"), secrets=SECRETS)
    assert SECRETS.hmac_key not in f"{expression!r} {expression}"
    with pytest.raises(pl.exceptions.PolarsError) as caught:
        pl.DataFrame({"other": [1]}).select(expression)
    assert SECRETS.hmac_key not in str(caught.value)
    with pytest.raises(TechniqueError) as wrong:
        Secrets("not hex at all", SECRETS.hmac_key, SECRETS.release_salt)
    assert "not hex" not in str(wrong.value)


# ------------------------------------------------------------------ masks
@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("+1-619-555-4567", "***-***-4567"),
        ("(619) 555-4567", "***-***-4567"),
        ("619.555.4567 x89", "***-***-4567"),
        ("619-555-4567 ext. 123", "***-***-4567"),
        ("5554567", "***-***-4567"),
        ("554567", "***-***-****"),
        ("4567", "***-***-****"),
        ("", "***-***-****"),
        ("call me", "***-***-****"),
        ("٠١٢٣٤٥٦٧٨٩", "***-***-****"),
        (None, None),
    ],
)
def test_phone(value, masked):
    assert apply({"name": "mask", "kind": "phone"}, [value], dtype=pl.String) == [masked]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.text("0123456789 ()+-.xXeEtT#\n٣", max_size=16), max_size=6), st.integers(1, 4))
def test_phone_agrees_with_a_plain_loop(numbers, keep):
    def masked(number):
        digits = re.sub("[^0-9]", "", re.sub(r"(?i)(?:x|ext|#).*\Z", "", number))
        return "***-***-" + (digits[-keep:] if len(digits) >= keep + 3 else "*" * keep)

    spec = {"name": "mask", "kind": "phone", "keep_last": keep}
    assert apply(spec, numbers, dtype=pl.String) == [None if n is None else masked(n) for n in numbers]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.text("0123456789ABxyß -\n", max_size=9), max_size=6), st.integers(1, 3))
def test_zip_agrees_with_a_plain_loop(codes, keep):
    def masked(code):
        plain = re.sub("[ -]", "", code.upper())
        return plain[:keep] + "**" if re.fullmatch(f"[0-9A-Z]{{{keep + 2},}}", plain) else "*" * (keep + 2)

    spec = {"name": "mask", "kind": "zip", "keep_first": keep}
    assert apply(spec, codes, dtype=pl.String) == [None if c is None else masked(c) for c in codes]


@pytest.mark.parametrize("spec", TEXT_SPECS, ids=lambda spec: "-".join(map(str, spec.values())))
@settings(max_examples=30, deadline=None)
@given(values=VALUES)
def test_what_repeats_comes_out_as_what_does_not(spec, values):
    assert apply(spec, values * 9, dtype=pl.String) == apply(spec, values, dtype=pl.String) * 9


def test_phone_parameters():
    spec = {"name": "mask", "kind": "phone", "keep_last": 2, "template": "(***) *-{}"}
    assert apply(spec, ["619-555-4567", "1"]) == ["(***) *-67", "(***) *-**"]
    for wrong in ({"keep_last": 5}, {"keep_last": 0}, {"template": "{}{}"}, {"template": "619-{}"}):
        with pytest.raises(ValidationError):
            PARSE({"name": "mask", "kind": "phone"} | wrong)


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("92101", "921**"),
        ("92101-1234", "921**"),
        ("SW1A 1AA", "SW1**"),
        ("sw1a1aa", "SW1**"),
        ("1234", "*****"),
        ("123", "*****"),
        ("", "*****"),
        ("９２１０１", "*****"),
        ("92101!", "*****"),
        (None, None),
    ],
)
def test_zip(value, masked):
    assert apply({"name": "mask", "kind": "zip"}, [value], dtype=pl.String) == [masked]


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("192.168.1.42", "192.168.1.0"),
        (" 8.8.8.8 ", "8.8.8.0"),
        ("2001:db8:12:34::1", "2001:db8:12::"),
        ("2001:0DB8:0012:0034:0:0:0:1", "2001:db8:12::"),
        ("2001:db8::1", "2001:db8::"),
        ("::1", "::"),
        ("::ffff:10.1.2.3", "10.1.2.0"),
        ("::1:2:3:4:5:6:7", "0:1:2::"),
        ("256.1.1.1", None),
        ("192.168.001.042", None),
        ("192.168.1", None),
        ("1:2:3", None),
        ("1::2::3", None),
        (":::", None),
        ("1:2:3:4:5:6:7:8:9", None),
        ("12345::", None),
        ("fe80::1%eth0", None),
        ("localhost", None),
        ("", None),
        (None, None),
    ],
)
def test_ip(value, masked):
    assert apply({"name": "mask", "kind": "ip"}, [value], dtype=pl.String) == [masked]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.ip_addresses(), min_size=1, max_size=5), st.data())
def test_ip_agrees_with_the_standard_library(addresses, data):
    texts = [
        data.draw(st.sampled_from([str(address), address.exploded, str(address).upper()])) for address in addresses
    ]
    for address, network in zip(addresses, apply({"name": "mask", "kind": "ip"}, texts), strict=True):
        bits = 24 if address.version == 4 else 48
        expected = ipaddress.ip_network((address, bits), strict=False).network_address
        if address.version == 6 and address.ipv4_mapped:
            continue
        assert ipaddress.ip_address(network) == expected


# ------------------------------------------------------------------ bucket
def test_age_groups():
    ages = [0, 17, 18, 24, 25, 34, 44, 54, 55, 64, 65, 120, -1, None]
    groups = [
        "0-17",
        "0-17",
        "18-24",
        "18-24",
        "25-34",
        "25-34",
        "35-44",
        "45-54",
        "55-64",
        "55-64",
        "65+",
        "65+",
    ]
    assert apply(AGE, ages) == [*groups, None, None]


def test_bucket_floats_text_and_ends():
    assert apply(AGE, [17.9, float("nan"), float("inf"), float("-inf")]) == ["0-17", None, None, None]
    assert apply(AGE, ["30", "thirty", ""]) == ["25-34", None, None]
    closed = AGE | {"open_ended": False}
    assert apply(closed, [64, 65, 66]) == ["55-64", None, None]
    assert apply({"name": "bucket", "edges": [0.5, 1.5]}, [0.4, 0.5, 2]) == [None, "0.5-<1.5", "1.5+"]
    assert apply(AGE | {"edges": [0, 1, 2], "labels": ["none", "one", "more"]}, [0, 1, 9]) == [
        "none",
        "one",
        "more",
    ]
    assert apply({"name": "bucket", "edges": [0, 1, 2]}, [0, 1, 2]) == ["0", "1", "2+"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"edges": [1]},
        {"edges": [2, 1]},
        {"edges": [1, 1]},
        {"edges": [0, float("inf")]},
        {"edges": [0, float("nan")]},
        {"edges": [0, 1], "labels": ["a"]},
        {"edges": [0, 1], "labels": ["a", "a"]},
    ],
)
def test_bucket_refuses(wrong):
    with pytest.raises(ValidationError):
        PARSE({"name": "bucket"} | wrong)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000), min_size=2, max_size=6, unique=True).map(sorted),
    st.lists(st.none() | st.integers(-2000, 2000), min_size=1, max_size=10),
)
def test_bucket_agrees_with_a_plain_loop(edges, values):
    labels = PARSE({"name": "bucket", "edges": edges}).range_labels()

    def expected(value):
        if value is None or value < edges[0]:
            return None
        return labels[max(index for index, edge in enumerate(edges) if value >= edge)]

    assert apply({"name": "bucket", "edges": edges}, values, dtype=pl.Int64) == [expected(v) for v in values]


# ------------------------------------------------------------------ generalize, suppress, keep, truncate
def test_generalize_by_the_packaged_hierarchy():
    spec = {"name": "generalize", "hierarchy": "city", "level": "region"}
    assert apply(spec, ["San Diego", " SAN DIEGO ", "Nowhere-upon-Sea", "", None]) == [
        "West",
        "West",
        "*",
        "*",
        None,
    ]
    assert apply(spec | {"level": "*"}, ["San Diego", None]) == ["*", "*"]


def test_generalize_refuses():
    with pytest.raises(HierarchyError, match="no level 'planet'"):
        Generalize(hierarchy="city", level="planet").check("string", sealed=True)
    for sealed in (True, False):
        with pytest.raises(TechniqueError, match="value itself"):
            Generalize(hierarchy="city", level="city").check("string", sealed=sealed)
    with pytest.raises(HierarchyError, match="no hierarchy 'planets'"):
        apply({"name": "generalize", "hierarchy": "planets", "level": "x"}, ["a"])


DATES = {"date": ["day", "month", "year"]}
ZIP = {"prefix": [3, 1]}


@pytest.mark.parametrize(
    ("spec", "sealed", "levels"),
    [
        ({"hierarchy": "city"}, True, ("region", "country", "*")),
        ({"hierarchy": "city"}, False, ("city", "region", "country", "*")),
        ({"hierarchy": "city", "from": "country"}, False, ("country", "*")),
        ({"hierarchy": "city", "up_to": "country"}, True, ("region", "country")),
        ({"hierarchy": "city", "level": "country"}, True, ("country",)),
        ({"hierarchy": DATES}, True, ("month", "year", "*")),
        ({"hierarchy": DATES}, False, ("day", "month", "year", "*")),
        ({"hierarchy": {"date": ["month"]}}, True, ("month", "*")),
        ({"hierarchy": ZIP, "from": "prefix_3", "up_to": "prefix_1"}, True, ("prefix_3", "prefix_1")),
    ],
    ids=str,
)
def test_generalize_levels_the_search_may_choose(spec, sealed, levels):
    technique = PARSE({"name": "generalize"} | spec)
    assert technique.allowed(sealed=sealed) == levels
    assert PARSE(technique.model_dump()) == technique
    pinned = PARSE({"name": "generalize", "hierarchy": spec["hierarchy"], "level": levels[-1]})
    assert pinned.allowed(sealed=sealed) == levels[-1:]


def test_generalize_publishes_at_the_level_chosen():
    searched = PARSE({"name": "generalize", "hierarchy": ZIP})
    with pytest.raises(TechniqueError, match="no level was chosen"):
        searched.expr(pl.col("v"), secrets=SECRETS)
    pinned = {"name": "generalize", "hierarchy": ZIP, "level": "prefix_1"}
    assert apply(pinned, ["92101", "92500", None, "x"]) == ["9****", "9****", None, "*"]


def test_generalized_dates_keep_their_type():
    technique = PARSE({"name": "generalize", "hierarchy": DATES})
    assert technique.output_type == "same"
    assert PARSE({"name": "generalize", "hierarchy": "city"}).output_type == "text"
    pinned = PARSE({"name": "generalize", "hierarchy": DATES, "level": "month"})
    frame = pl.DataFrame({"v": [date(2024, 3, 5), None]})
    assert frame.select(pinned.expr(pl.col("v"), secrets=SECRETS)).to_series().to_list() == [date(2024, 3, 1), None]


def test_generalize_leak_rule_covers_the_levels_that_may_come_out():
    rule = PARSE({"name": "generalize", "hierarchy": "city", "from": "region"}).output_rule()
    assert rule.closed
    assert {"West", "United States", "*"} <= rule.allowed
    assert "San Diego" not in rule.allowed
    assert "West" not in PARSE({"name": "generalize", "hierarchy": "city", "level": "country"}).vocabulary()
    codes = PARSE({"name": "generalize", "hierarchy": ZIP, "from": "prefix_3"})
    assert codes.vocabulary() is None
    shape = re.compile(codes.output_rule().shape)
    assert shape.fullmatch("921**")
    assert shape.fullmatch("9****")
    assert not shape.fullmatch("92101")


@pytest.mark.parametrize(
    ("spec", "kind", "sealed", "message"),
    [
        ({"hierarchy": "city", "from": "city"}, "string", True, "value itself"),
        ({"hierarchy": DATES, "from": "day"}, "date", True, "value itself"),
        ({"hierarchy": DATES, "level": "day"}, "timestamp", True, "value itself"),
        ({"hierarchy": DATES}, "string", False, "date, timestamp"),
        ({"hierarchy": ZIP}, "number", True, "integer, string"),
        ({"hierarchy": "city"}, "number", True, "boolean, integer, string"),
        ({"hierarchy": {"intervals": {"domain": [0, 9], "every": [5]}}}, "date", True, "integer, number, string"),
        ({"hierarchy": "city", "from": "country", "up_to": "region"}, "string", True, "finer"),
        ({"hierarchy": "city", "up_to": "planet"}, "string", True, "no level"),
    ],
    ids=str,
)
def test_generalize_refuses_what_cannot_be_chosen(spec, kind, sealed, message):
    technique = PARSE({"name": "generalize"} | spec)
    with pytest.raises(PrivacyPlatformError, match=message):
        technique.check(kind, sealed=sealed)


def test_generalize_takes_a_level_or_bounds():
    with pytest.raises(ValidationError, match="pins the level"):
        PARSE({"name": "generalize", "hierarchy": "city", "level": "region", "up_to": "country"})
    with pytest.raises(ValidationError, match="finest"):
        PARSE({"name": "generalize", "hierarchy": "city", "finest": "region"})


def test_suppress_hides_even_whether_there_was_a_value():
    assert apply({"name": "suppress"}, [1, None]) == [None, None]
    assert apply({"name": "suppress", "value": "*"}, [1, None]) == ["*", "*"]
    frame = pl.DataFrame({"v": [1.5]}).select(PARSE({"name": "suppress"}).expr(pl.col("v"), secrets=SECRETS))
    assert frame.schema["v"] == pl.Float64


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("second", datetime(2026, 5, 6, 14, 5, 9)),
        ("minute", datetime(2026, 5, 6, 14, 5)),
        ("hour", datetime(2026, 5, 6, 14)),
        ("day", datetime(2026, 5, 6)),
        ("week", datetime(2026, 5, 4)),
        ("month", datetime(2026, 5, 1)),
        ("quarter", datetime(2026, 4, 1)),
        ("year", datetime(2026, 1, 1)),
    ],
)
def test_truncate(unit, expected):
    value = datetime(2026, 5, 6, 14, 5, 9, 123456, tzinfo=UTC)
    assert apply({"name": "truncate", "unit": unit}, [value, None]) == [expected.replace(tzinfo=UTC), None]
    if unit in ("week", "month", "quarter", "year"):
        assert apply({"name": "truncate", "unit": unit}, [date(2026, 5, 6)]) == [expected.date()]


# ------------------------------------------------------------------ scrub
SCRUB = {"name": "scrub", "own": ["first", "email", "id"]}


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("I am Ann, mail ann@x.org", "I am [FIRST], mail [EMAIL]"),
        ("ANN ann Ann", "[FIRST] [FIRST] [FIRST]"),
        ("Annapolis Joann annx", "Annapolis Joann annx"),
        ("/u/ann_lovelace", "/u/[FIRST]_lovelace"),
        ("/u/user_7?n=%20Ann&m=ann%40localhost", "/u/[ID]?n=%20[FIRST]&m=[EMAIL]"),
        ("user_77 is somebody else", "user_77 is somebody else"),
        ("q=Ann+hotel", "q=[FIRST]+hotel"),
        ("write to ann@localhost", "write to [EMAIL]"),
        ("ann's call: 619-555-0123", "[FIRST]'s call: [PHONE]"),
        ("nothing here", "nothing here"),
        ("", ""),
        (None, None),
    ],
)
def test_scrub_own_values(text, scrubbed):
    context = {"first": ["Ann"], "email": ["ann@localhost"], "id": ["user_7"]}
    assert apply(SCRUB, [text], dtype=pl.String, **context) == [scrubbed]


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("call 16195557003 now", "call [OWN] now"),
        ("6195557003", "[OWN]"),
        ("/tel?n=%2B1%20619%20555%207003&x=1", "/tel?n=%2B[OWN]&x=1"),
        ("0016195557003", "[OWN]"),
        ("161955570031", "161955570031"),
        ("26195557004", "26195557004"),
        ("5557003", "5557003"),
    ],
)
def test_scrub_own_number_however_it_is_grouped(text, scrubbed):
    # Patterns find some of these by themselves: only the record's own value is looked at here.
    kept = pl.DataFrame({"t": [text], "v": ["+1-619-555-7003 x12"]}).select(
        own_values.scrub_own(pl.col("t"), {"own": pl.col("v")})
    )
    assert kept.to_series().to_list() == [scrubbed]
    if text != scrubbed:
        assert own_values.Texts(pl.Series([text])).may_hold(pl.Series(["+1-619-555-7003 x12"])).to_list() == [True]


def test_scrub_own_name_written_with_combining_marks():
    decomposed = "Zoe\u0308 was here"
    for text, scrubbed in ((decomposed, "[OWN] was here"), ("/u/Zoe%CC%88", "/u/[OWN]")):
        frame = pl.DataFrame({"t": [text], "v": ["Zo\u00eb"]})
        assert frame.select(own_values.scrub_own(pl.col("t"), {"own": pl.col("v")})).to_series().to_list() == [scrubbed]


@pytest.mark.parametrize(
    ("text", "name", "scrubbed"),
    [
        ("José mag Tee", "José", "[FIRST] mag Tee"),
        ("JOSÉ", "josé", "[FIRST]"),
        ("?n=Jos%C3%A9&x", "José", "?n=[FIRST]&x"),
        ("山田太郎です", "山田", "[FIRST]太郎です"),
        ("Jo likes tea", "Jo", "Jo likes tea"),
        ("a*b (c) Mary Ann.", "mary ann", "a*b (c) [FIRST]."),
        ("İpek ipek İpek", "İpek", "[FIRST] ipek [FIRST]"),
        ("x.y xzy", "x.y", "[FIRST] xzy"),
        ("no name", None, "no name"),
        ("no name", "", "no name"),
    ],
)
def test_scrub_names(text, name, scrubbed):
    spec = {"name": "scrub", "own": ["first"]}
    assert apply(spec, [text], dtype=pl.String, first=pl.Series([name], dtype=pl.String)) == [scrubbed]


def test_scrub_refuses_unknown_own_fields_without_naming_values():
    with pytest.raises(TechniqueError, match="'first'"):
        apply(SCRUB, ["x"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.none() | UNICODE, st.none() | UNICODE), min_size=1, max_size=6))
def test_scrub_own_is_row_wise_and_leaves_no_own_word(rows):
    texts = [text for text, _ in rows]
    names = [name for _, name in rows]
    spec = {"name": "scrub", "own": ["first"]}

    def run(some_texts, some_names):
        return apply(spec, some_texts, dtype=pl.String, first=pl.Series(some_names, dtype=pl.String))

    assert run(texts, names) == [run([text], [name])[0] for text, name in rows]
    for name in names:
        if name and len(name) >= 3 and name.isalpha():
            assert run([f"so {name} said"], [name])[0] == "so [FIRST] said"


# ------------------------------------------------------------------ noise
NOISE = {"name": "noise", "epsilon": 1.0, "lower": 0, "upper": 100}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.integers(-(2**62), 2**62), max_size=20), st.integers(0, 3))
def test_noise_is_null_safe_and_keeps_to_its_grid(numbers, digits):
    out = apply(NOISE | {"digits": digits}, numbers, dtype=pl.Int64)
    assert [number is None for number in out] == [number is None for number in numbers]
    assert all(round(number, digits) == number for number in out if number is not None)
    assert digits or all(isinstance(number, int) for number in out if number is not None)


def test_noise_of_what_is_no_number():
    assert apply(NOISE, [float("nan"), float("inf"), None], dtype=pl.Float64) == [None, None, None]
    assert apply(NOISE, [], dtype=pl.Int64) == []


def test_noise_is_drawn_anew_for_every_record_and_release():
    once, again = (apply(NOISE, [50] * 1000) for _ in range(2))
    assert once != again
    assert len(set(once)) > 100


def test_noise_is_discrete_laplace_around_the_clamped_number():
    # 20,000 draws of scale 100 (standard deviation 141.4): the mean is within 6 of its own deviations, 1.0.
    for value, centre in ((-7, 0), (30, 30), (5000, 100)):
        drawn = pl.Series(apply(NOISE, [value] * 20_000))
        assert abs(drawn.mean() - centre) < 6
        assert 130 < drawn.std() < 153


def test_noise_does_not_tell_numbers_apart_by_more_than_epsilon():
    # The two numbers that differ most; outcomes seen often enough that chance moves a frequency by a tenth at most.
    spec = {"name": "noise", "epsilon": 1.0, "lower": 0, "upper": 2}
    low, high = (Counter(apply(spec, [value] * 60_000)) for value in (0, 2))
    outcomes = [outcome for outcome in low if min(low[outcome], high[outcome]) > 1500]
    assert len(outcomes) > 5
    ratios = [max(low[o] / high[o], high[o] / low[o]) for o in outcomes]
    assert max(ratios) < math.e * 1.15
    assert max(ratios) > math.e / 1.15, "no more noise than is needed"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**9), st.floats(0.001, 20))
def test_noise_spends_no_more_than_epsilon(span, epsilon):
    opendp.enable_features("contrib")
    added = opendp.m.make_laplace(
        opendp.atom_domain(T="i64"), opendp.absolute_distance(T="i64"), scale=laplace_scale(span, epsilon)
    )
    spent = added.map(span)
    assert epsilon * 0.999999 < spent <= epsilon


def test_noise_in_fixed_point():
    spec = {"name": "noise", "epsilon": 500, "lower": "0.5", "upper": 2.25, "digits": 2}
    out = apply(spec, [0.0, 1.234, 9.0])
    for number, near in zip(out, [0.5, 1.23, 2.25], strict=True):
        assert abs(number - near) < 0.2
    technique = PARSE(spec)
    assert PARSE(technique.model_dump(mode="json")) == technique
    assert technique.output_type == "same"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": 0}, "greater than 0"),
        ({"epsilon": float("inf")}, "finite"),
        ({"lower": 100}, "below"),
        ({"lower": float("nan")}, "finite"),
        ({"lower": 0.5}, "decimals"),
        ({"upper": 10**16}, "too wide"),
        ({"epsilon": 1e-14}, "too wide"),
        ({"digits": 7}, "less than or equal to 6"),
    ],
)
def test_noise_refuses(wrong, message):
    with pytest.raises(ValidationError, match=message):
        PARSE(NOISE | wrong)


# ------------------------------------------------------------------ parameters
@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "noise"},
        {"name": "hash", "salt": "x"},
        {"name": "mask"},
        {"name": "mask", "kind": "email"},
        {"name": "mask", "kind": "zip", "keep_first": 5},
        {"name": "hmac", "normalize": "soundex"},
        {"name": "hmac", "domain": "Not a name"},
        {"name": "truncate", "unit": "decade"},
        {"name": "suppress", "value": "secret"},
        {},
    ],
)
def test_unknown_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        PARSE(wrong)


def test_parameters_are_frozen():
    with pytest.raises(ValidationError):
        Hmac().domain = "x"
