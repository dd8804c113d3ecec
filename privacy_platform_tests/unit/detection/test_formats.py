"""The kinds of single values: formats, check digits, words; each with a value that only looks like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_platform.detection import ids
from privacy_platform.detection.formats import kinds_of

VALID = [
    ("email", "ana.lopez+x@example.co.uk", "ana.lopez@host"),
    ("phone", "+44 20 7946 0958", "+44 1"),
    ("phone", "(171) 555-2222", "171-55-2222"),
    ("phone_digits", "13812345678", "12345"),
    ("phone_national", "030 123 45 67", "30 12"),
    ("ip", "203.0.113.7", "203.0.113.700"),
    ("ip", "2001:db8::1", "12:30"),
    ("mac", "00:1B:44:11:3A:B7", "00:1B:44:11:3A"),
    ("uuid", "38400000-8cf0-11bd-b23e-10b96e40000d", "38400000-8cf0-11bd-b23e"),
    ("url", "https://example.org/a", "example"),
    ("credit_card", "4111 1111 1111 1111", "4111 1111 1111 1112"),
    ("iban", "DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 01"),
    ("imei", "490154203237518", "490154203237519"),
    ("date", "1985-03-12", "1985-03-99"),
    ("date", "12.03.1985", "31.31.1985"),
    ("date", "12 March 1985", "12 March"),
    ("postal", "SW1A 1AA", "SW1A1"),
    ("latlon", "52.5200", "52.5"),
    ("latlon_pair", "52.52, 13.40", "52, 13"),
    ("age_band", "25-34", "250-3400"),
    ("card_masked", "**** **** **** 1234", "****"),
    ("secret", "sk_live_4eC39HqLyjWDarjtT1zdp7dc", "sk_live"),
    ("hash", "pbFwXWE99vobT6g+vPWFy93NtUU/orrIWafF01hccfM=", "notahash"),
    ("domain_user", "adventure-works\\ken0", "adventure/ken0"),
    ("vin", "1HGCM82633A004352", "1HGCM82633A0043"),
    ("icd", "E11.9", "E1"),
    ("closed:gender", "Weiblich", "weiblicher"),
    ("closed:religion", "Hindu", "Hindukush"),
    ("country_code", "DE", "DEX"),
    ("full_name", "Maria Anders", "Blue Table"),
    ("full_name", "SMITH, JOHN", "SMYTHEX, QWERT"),
    ("full_name", "Иванов Иван Петрович", "Синий стол"),
    ("full_name", "王伟", "红茶"),
    ("full_name", "佐藤 健", "会議室"),
    ("titled", "Dr. Watson", "Watson"),
    ("first", "Katrin", "Katalog"),
    ("last", "Müller", "Mülltonne"),
    ("people_list", "Angus Young, Malcolm Young, Brian Johnson", "bread, butter, cheese"),
    ("street", "Theodor-Heuss-Straße 34", "Theodor 34"),
    ("street", "1970 Napa Ct.", "1970 Napa"),
    ("street", "Calle Mayor 12", "Mayor 12"),
    ("street", "北京市朝阳区建国路88号", "北京市朝阳"),
    ("company", "Müller GmbH", "Müller"),
    ("company", "株式会社日立", "日立"),
    ("city", "São Paulo", "Sao Qwertz"),
    ("country", "Deutschland", "Deutschlands"),
    ("text", "She came from the north and stayed for years.", "She came"),
]


@pytest.mark.parametrize(("kind", "value", "other"), VALID, ids=lambda part: str(part)[:24])
def test_a_kind_and_what_only_looks_like_it(kind: str, value: str, other: str) -> None:
    assert kind in kinds_of(value).names
    assert kind not in kinds_of(other).names


NATIONAL = {
    "us": "536-22-1845", "br": "529.982.247-25", "it": "RSSMRA85M01H501Q", "es": "12345678Z",
    "mx": "BOXW310820HNERXN09", "fr": "2 95 10 99 126 111 93",
    "cn": "110101199003070134", "se": "811228-9874", "fi": "131052-308T",
    "cl": "12.531.909-2", "in": "ACUPA7085R", "cz": "710319/2745", "ro": "1800101221144", "ar": "20-05536168-2",
    "ee": "36805280109", "gb": "AB 12 34 56 C",
}  # fmt: skip
WEAK = {
    "pl": "44051401359", "nl": "111222333", "tr": "17291716060", "pt": "501964843", "be": "85073003328",
    "za": "7503305044089", "il": "039337423", "au": "123 456 782", "ca": "123-456-782", "hr": "33392005961",
    "bg": "7523169263", "no": "15108695088", "de": "36574261809", "in": "234123412346", "gr": "01013099997",
}  # fmt: skip


@pytest.mark.parametrize("country", sorted(NATIONAL))
def test_national_identifiers_with_structure_are_sure(country: str) -> None:
    assert "national_id" in kinds_of(NATIONAL[country]).names


@pytest.mark.parametrize("country", sorted(WEAK))
def test_bare_digits_with_a_check_digit_are_weak(country: str) -> None:
    names = kinds_of(WEAK[country]).names

    assert "national_id_weak" in names
    assert "national_id" not in names


def test_identifiers_of_many_countries() -> None:
    assert len(ids.COUNTRIES) >= 25


@given(st.text(max_size=150))
def test_any_value_has_kinds(value: str) -> None:
    assert isinstance(kinds_of(value).names, frozenset)
