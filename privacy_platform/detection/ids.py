"""Identifiers with a check digit or a grammar: payment cards, bank accounts, national identifiers (python-stdnum).

Only forms that hold enough check digits or structure are sure by themselves (``national_id``); those that are bare
digits with one check digit (a tenth of all numbers would pass) are ``national_id_weak`` and need the name's word.
"""

import re
from collections.abc import Callable, Collection
from functools import lru_cache
from importlib import import_module
from typing import Any

from stdnum import iban, luhn

__all__ = ["COUNTRIES", "kinds_of", "of_one_country"]

# Module of python-stdnum → the form it is written in; forms of digits alone are weak, but for those with two check
# digits or a date in them.
_SURE: dict[str, str] = {
    "us.ssn": r"\d{3}-\d{2}-\d{4}",
    "br.cpf": r"\d{3}\.\d{3}\.\d{3}-\d{2}",
    "it.codicefiscale": r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]",
    "es.dni": r"\d{8}-?[A-Za-z]",
    "es.nie": r"[XYZxyz]-?\d{7}-?[A-Za-z]",
    "mx.curp": r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d",
    "fr.nir": r"[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}",
    "cn.ric": r"\d{17}[\dXx]",
    "se.personnummer": r"(?:\d{2})?\d{6}[-+]\d{4}",
    "fi.hetu": r"\d{6}[-+A]\d{3}[0-9A-Z]",
    "dk.cpr": r"\d{6}-\d{4}",
    "cl.rut": r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]",
    "in_.pan": r"[A-Z]{3}P[A-Z]\d{4}[A-Z]",
    "kr.rrn": r"\d{6}-[1-4]\d{6}",
    "cz.rc": r"\d{6}/\d{3,4}",
    "ro.cnp": r"[1-8]\d{12}",
    "ar.cuit": r"2[0347]-\d{8}-\d",
    "za.idnr": r"\d{6} \d{4} \d{3}",
    "gb.nhs": r"\d{3} \d{3} \d{4}",
    "my.nric": r"\d{6}-\d{2}-\d{4}",
    "ee.ik": r"[3-6]\d{10}",
}
_WEAK: dict[str, str] = {
    "pl.pesel": r"\d{11}",
    "nl.bsn": r"\d{9}",
    "br.cpf": r"\d{11}",
    "tr.tckimlik": r"[1-9]\d{10}",
    "il.idnr": r"\d{9}",
    "no.fodselsnummer": r"\d{11}",
    "be.nn": r"\d{11}|\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}",
    "in_.aadhaar": r"\d{12}|\d{4} \d{4} \d{4}",
    "pt.nif": r"\d{9}",
    "bg.egn": r"\d{10}",
    "za.idnr": r"\d{13}",
    "de.idnr": r"\d{11}",
    "au.tfn": r"\d{3} \d{3} \d{3}",
    "ca.sin": r"\d{3}[- ]\d{3}[- ]\d{3}",
    "hr.oib": r"\d{11}",
    "gr.amka": r"\d{11}",
    "gb.nhs": r"\d{10}",
    "se.personnummer": r"\d{10}|\d{12}",
    "us.ssn": r"\d{9}",
}
_NINO = re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]")
_CARD = re.compile(r"(?:\d[ -]?){13,19}")
_CARD_FIRST = re.compile(r"4|5[0-8]|2[2-7]|3[04-9]|6[0-9]")
_IMEI_BODIES = ("35", "86", "01", "99", "49")
_IBAN = re.compile(r"[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}")

COUNTRIES = frozenset(name.split(".")[0].rstrip("_") for table in (_SURE, _WEAK) for name in table) | {"gb"}


@lru_cache(maxsize=1)
def _forms() -> tuple[tuple[str, re.Pattern[str], Any], ...]:
    return tuple(
        (kind, re.compile(form), import_module(f"stdnum.{name}"))
        for kind, table in (("national_id", _SURE), ("national_id_weak", _WEAK))
        for name, form in table.items()
    )


def _is_card(value: str) -> bool:
    digits = re.sub(r"[ -]", "", value)
    return bool(_CARD_FIRST.match(digits)) and len(digits) in (13, 14, 15, 16, 19) and bool(luhn.is_valid(digits))


def _card_kinds(value: str) -> set[str]:
    if not _CARD.fullmatch(value):
        return set()
    imei = len(value) == 15 and value.isdigit() and value[:2] in _IMEI_BODIES and luhn.is_valid(value)
    shape = {"credit_card"} if _is_card(value) else {"card_shape"} if len(value) in (14, 15, 16, 19) else set()
    return shape | ({"imei"} if imei else set())


def kinds_of(value: str) -> set[str]:
    """``credit_card``, ``iban``, ``national_id``, ``national_id_weak`` and ``imei``, as they are valid."""
    if not 8 <= len(value) <= 42 or sum(map(str.isdigit, value)) < 4:
        return set()
    kinds = _card_kinds(value)
    if _IBAN.fullmatch(value) and iban.is_valid(value, check_country=False):
        kinds.add("iban")
    if _NINO.fullmatch(value):
        kinds.add("national_id")
    for kind, form, module in _forms():
        if kind not in kinds and form.fullmatch(value):
            check: Callable[[str], bool] = module.is_valid
            if check(value):
                kinds.add(kind)
    return kinds


@lru_cache(maxsize=1)
def _own_checks() -> tuple[tuple[str, re.Pattern[str], Any], ...]:
    """The weak forms whose check digit nothing but people has: not the NHS number's (ISBN), nor a form without one."""
    weak = [name for name in _WEAK if name not in ("gb.nhs", "us.ssn", "za.idnr")]
    return tuple((name, re.compile(_WEAK[name]), import_module(f"stdnum.{name}")) for name in weak)


def of_one_country(values: Collection[str]) -> bool:
    """Whether nine in ten distinct values are identifiers of one country, of a form that says little by itself.

    One number in ten has the check digit of a country; five numbers have it by chance once in 100,000 times.
    """
    if len(values) < 5 or not all(8 <= len(value) <= 16 for value in values):
        return False
    return any(
        sum(bool(form.fullmatch(value)) and module.is_valid(value) for value in values) >= 0.9 * len(values)
        for _, form, module in _own_checks()
    )
