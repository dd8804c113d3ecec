"""Value patterns: what is found, what must not be, and that all four entry points agree."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_platform.detection import patterns

FOUND = {
    "email": [
        "bob@example.com",
        "mail to Bob.O'Neil+news@mail.example.co.uk.",
        "alice%40example.com",
        "https://x.org/a?email=alice%40example.com&x=1",
        "/account?email=bob@example.org&x=1",
        "josé.garcía@exämple.de",
        "<bob_1@example.org>",
        "x=1;bob@sub-domain.example.museum",
        "山田@example.jp",
        "a%2540example.com",
    ],
    "phone": [
        "+1-619-555-0123",
        "+16195550123",
        "(619) 555-0123",
        "(619)555-0123",
        "619.555.0123",
        "619-555-0123",
        "619 555 0123",
        "619 555-0123",
        "1-619-555-0123",
        "call 619-555-0123x45 now",
        "+44 20 7946 0123",
        "+44 (0)20 7946 0123",
        "+49 30 123456",
        "+33 1 23 45 67 89",
        "01 23 45 67 89",
        "020 7946 0123",
        "0044 20 7946 0123",
        "001-619-555-0123",
        "?tel=%2B16195550123",
        "?tel=619%20555%200123",
        "?tel=(619)+555-0123",
        "my number is 619-555-0123.",
        "+81-3-1234-5678",
        "call-619-555-0123",
    ],
    "credit_card": [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111.",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
        "3530111333300000",
        "30569309025904",
        "2026 4111 1111 1111 1111",
    ],
    "iban": [
        "GB82WEST12345698765432",
        "GB82 WEST 1234 5698 7654 32",
        "DE89370400440532013000",
        "pay to DE89 3704 0044 0532 0130 00 TODAY PLEASE",
        "FR1420041010050500013M02606",
    ],
    "us_ssn": ["123-45-6789", "ssn: 001-01-0001."],
    "uk_nino": ["AB123456C", "AB 12 34 56 C"],
    "it_codice_fiscale": ["RSSMRA85T10A562S"],
    "es_dni": ["12345678Z", "X1234567L", "12345678-Z"],
    "fr_nir": ["255081416802538", "2 55 08 14 168 025 38"],
    "br_cpf": ["123.456.789-09"],
    "ipv4": ["192.168.1.42", "from 8.8.8.8.", "http://10.1.2.3:8080/x", "1.2.3.0", "/host/192.168.1.42"],
    "ipv6": [
        "2001:db8:12:34::1",
        "fe80::1",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "[2001:db8::1]:443",
        "2001:DB8:0:1::",
    ],
    "mac_address": ["00:1A:2b:3c:4D:5e", "00-1A-2B-3C-4D-5E"],
}

CLEAN = [
    "",
    "7",
    "1234567",
    "6195550123",
    "1717171717",
    "1717171717171",
    "1717171717171717",
    "1234567890123456789",
    "4111111111111112",
    "4111 1111 1111 1112",
    "0.4111111111111111",
    "1299.99",
    "1,299.99",
    "-12.5",
    "3.14159265358979",
    "2026-05-03",
    "03.05.2026",
    "05/03/2026",
    "2026-05-03T14:05:09Z",
    "2026-05-03T14:05:09.123456+10:00",
    "2026-05-03 14:05:09.123 +0200",
    "2026-05-03 2026-05-04 2026-05-05",
    "14:05:09",
    "prod_0042",
    "evt_1234567890123456",
    "user_000001",
    "tok_0123456789abcdef0123456789abcdef",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "1234567890123456789012345678901234567890123456789012345678901234",
    "d41d8cd98f00b204e9800998ecf8427e",
    "550e8400-e29b-41d4-a716-446655440000",
    "44665544-1234-4123-8123-446655440000",
    "123e4567-e89b-12d3-a456-426614174000",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2_1 like Mac OS X) Version/17.2.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0",
    "Edg/120.0.2210.91 OPR/106.0.0.0",
    "https://www.example.com/products/prod_0042?ref=mail&page=2#top",
    "https://www.google.com/maps/@48.8588,2.2770,13z",
    "https://cdn.example.com/img/logo@2x.png",
    "https://medium.com/@someone/title-123",
    "https://unpkg.com/react@18.2.0/index.js",
    "www.example.com",
    "std::string a::b ::",
    "version 1.2.3",
    "v1.2.3.4",
    "256.1.1.1",
    "1.2.3.4.5",
    "0.0.0.0",
    "000-12-3456",
    "123-00-4567",
    "SKU AB123456",
    "GB82WEST12345698765433",
    "12345678A",
    "order 112-1234567-1234567",
    "isbn 978-3-16-148410-0",
    "921**",
    "***-***-4567",
    "[EMAIL] [PHONE] [IP]",
    "25-34",
    "price: 10 + 20 = 30",
    "a+1234567",
    "wireless headphones under 100 dollars",
    "カメラ 三脚 2026",
    "size 10 20 30 40",
    "00012345678",
    "192.168.1",
    "@home",
    "user at example dot com",
]


def _entry_points(text: str) -> tuple[bool, bool, bool]:
    series = pl.Series("t", [None, text, "nothing here"])
    held = patterns.contains_any_series(series).to_list()
    assert held[0] is False
    assert held[2] is False
    return held[1], bool(patterns.find(series)), patterns.scrub_series(series)[1] != text


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FOUND.items() for text in texts])
def test_found_by_every_entry_point(name: str, text: str):
    assert patterns.find(pl.Series([text]))[name] == 1
    assert _entry_points(text) == (True, True, True)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FOUND.items() for text in texts])
def test_nothing_left_after_scrubbing(name: str, text: str):
    scrubbed = patterns.scrub_series(pl.Series([text]))
    assert patterns.find(scrubbed) == {}
    assert "[" in scrubbed[0]


@pytest.mark.parametrize("text", CLEAN)
def test_not_personal(text: str):
    assert patterns.find(pl.Series([text])) == {}
    assert _entry_points(text) == (False, False, False)


def test_scrubbing_keeps_the_rest():
    texts = pl.Series(
        [
            "mail bob@example.com, or call (619) 555-0123!",
            "619-555-0123 619-555-0124 619-555-0125",
            "a@example.com,b@example.com;c@example.com",
            "/account?email=bob@example.org&x=1",
            "pay GB82 WEST 1234 5698 7654 32 NOW",
            None,
        ]
    )
    assert patterns.scrub_series(texts).to_list() == [
        "mail [EMAIL], or call [PHONE]!",
        "[PHONE] [PHONE] [PHONE]",
        "[EMAIL],[EMAIL];[EMAIL]",
        "/account?email=[EMAIL]&x=1",
        "pay [IBAN] NOW",
        None,
    ]


def test_find_counts_rows():
    texts = pl.Series(["a@example.com b@example.com", "c@example.com 8.8.8.8", None, "x"])
    assert patterns.find(texts) == {"email": 2, "ipv4": 1}
    assert patterns.find(texts, [p for p in patterns.PATTERNS if p.name == "ipv4"]) == {"ipv4": 1}


def test_empty_and_null_series():
    for series in (pl.Series([], dtype=pl.String), pl.Series([None, None], dtype=pl.String)):
        assert patterns.find(series) == {}
        assert patterns.scrub_series(series).to_list() == series.to_list()
        assert patterns.contains_any_series(series).to_list() == [False] * len(series)


def test_names_unique_and_placeholders_clean():
    assert len({pattern.name for pattern in patterns.PATTERNS}) == len(patterns.PATTERNS)
    assert patterns.find(pl.Series([pattern.replacement for pattern in patterns.PATTERNS])) == {}


FRAGMENTS = st.sampled_from([text for texts in FOUND.values() for text in texts] + CLEAN) | st.text(max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(FRAGMENTS, max_size=4).map(" ".join), max_size=6))
def test_rows_do_not_influence_each_other(texts: list[str]):
    series = pl.Series(texts, dtype=pl.String)
    together = patterns.scrub_series(series).to_list()
    assert together == [patterns.scrub_series(pl.Series([text])).item() for text in texts]
    found = patterns.contains_any_series(series).to_list()
    assert found == [bool(patterns.find(pl.Series([text]))) for text in texts]


@settings(max_examples=200, deadline=None)
@given(st.lists(FRAGMENTS, min_size=1, max_size=5).map(" ".join))
def test_superset_never_misses(text: str):
    """The prefilter is a superset: whatever a single pattern finds, the combined one lets through."""
    series = pl.Series([text])
    alone = any(
        pattern.occurs_in(text) if pattern.measure else series.str.contains(pattern.regex).item()
        for pattern in patterns.PATTERNS
    )
    assert patterns.contains_any_series(series).item() == alone
