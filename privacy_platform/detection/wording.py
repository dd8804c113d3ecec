"""What one value made of words is: a person, a street, an organisation, a place.

Contract: :func:`kinds_of_words` is pure and looks at one short text; names are looked up whole, in normal form and
romanized, never as parts of words.
"""

import re

from privacy_platform.detection.text import has_letters_of, normal, romanized
from privacy_platform.detection.types import PiiType
from privacy_platform.detection.words import closed_vocabularies, names_and_places, vocabulary

__all__ = ["is_personal_text", "kinds_of_words"]

_SPEECH = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_WORD = re.compile(r"[^\W\d_][\w.'’ʻ·-]*")
_LISTED = re.compile(r"[,;&|/]| and ")
_HOUSE = re.compile(r"\d{1,5}\s?[a-zA-Z]?(?:[-/]\d{1,5}[a-zA-Z]?)?")
_TICKET_NAME = re.compile(r"[A-ZÀ-Þ]{2,}(?: [A-ZÀ-Þ]+)?/[A-ZÀ-Þ]{2,}(?: [A-ZÀ-Þ]+){0,2}")  # SMITH/JOHN MR
_POBOX = re.compile(r"(?:p\.? ?o\.? ?box|postfach|casilla|apartado|postbus|boite postale|b\.?p\.?) \d+", re.I)
_STREET_END = re.compile(
    r"[\w-]{2,}(?:str(?:asse|\.)?|weg|gasse|platz|allee|ring|straat|laan|plein|gracht|kade|gatan|vagen|vej|gade|veien"
    r"|vei|gata|katu|tie|utca|damm|ufer)"
)
_CJK = (("\u3040", "\u30ff"), ("\u4e00", "\u9fff"), ("\uac00", "\ud7a3"))
_KANA_NAME = re.compile(
    "[\u30a1-\u30f6]{2,6}[ \u3000・][\u30a1-\u30f6]{2,5}|[\u3041-\u3096]{2,6}[ \u3000][\u3041-\u3096]{2,5}"
)
_CJK_STREET = re.compile(
    r"[\u4e00-\u9fff](?:路|街|巷|弄|号|號|室|楼|区|丁目|番地|町|村)|\d+[-−]\d+[-−]\d+|(?:로|길)\s?\d+|(?:동|구)\s"
)
# Stems of international nonproprietary names (WHO, The use of stems, 2018), and of Greek words for illnesses.
_MEDICAL = re.compile(
    r"\w{3,}(?:pril|sartan|statin|azole|mycin|cillin|formin|olol|dipine|azepam|zolam|oxetine|traline|triptan|gliptin|gliflozin"
    r"|floxacin|cycline|thiazide|profen|butamol|tinib|ciclovir|navir|setron|lukast|fenac|coxib)e?"
    r"|\w{3,}(?:itis|sclerosis|sklerose|carcinoma|karzinom|lymphoma|melanoma|thyroidism|thyreose|plegia|plegie|rrhea|rrhoe)"
    r"|\w*(?:an|leuk|glyc|ur|isch|lipid|tox)(?:aemia|emia|amie|emie)|hyp(?:er|o)ton?(?:ension|ie|ia|ensie)"
    r"|\w*(?:neuro|myo|retino|nephro|encephalo|arthro)path(?:y|ie|ia)|(?:neur|my|fibromy|arthr)alg(?:ia|ie)"
)
_SPEAKER_CJK = re.compile("我|私|僕|母が|父が|子ども|子供|息子|저는|제가|우리|아기|엄마|아빠")
_CJK_ORGANISATION = re.compile(r"株式会社.*|.*(?:公司|株式会社|大学|学校|医院|银行)")
# Little words inside of a name, and after it.
_PARTICLES = frozenset(
    [
        "de",
        "van",
        "von",
        "der",
        "da",
        "del",
        "di",
        "la",
        "al",
        "bin",
        "ben",
        "dos",
        "den",
        "y",
        "e",
        "el",
        "ibn",
        "ter",
        "ten",
        "le",
        "jr",
        "jr.",
        "sr",
        "sr.",
        "ii",
        "iii",
    ]
)


def kinds_of_words(value: str) -> set[str]:
    """Kinds of a text of letters: ``full_name``, ``first``, ``street``, ``company``, ``city`` and others."""
    if normal(value) in ("true", "false"):  # of which some are called so
        return set()
    kinds = _places(value)
    if _is_medical(value):
        kinds.add("medical")
    if is_personal_text(value):
        kinds.add("personal_text")
    if any(has_letters_of(value, first, last) for first, last in _CJK):
        return kinds | _without_blanks(value)
    raw = [word for word in re.split(r"[\s,;/]+" if _TICKET_NAME.fullmatch(value) else r"[\s,;]+", value) if word]
    words = [normal(word) for word in raw]
    if _is_organisation(raw, words):
        kinds.add("company")
    if _is_street(value, words):
        kinds.add("street")
    elif all(_WORD.fullmatch(word) for word in raw):
        kinds |= _person(raw, words)
    if value.count(",") == 1 and len(words) <= 4 and "full_name" in kinds:
        kinds.add("comma_name")
    if _LISTED.search(value) and _is_list_of_people(value):
        kinds.add("people_list")
    return kinds


def is_personal_text(value: str) -> bool:
    """Whether somebody speaks of themselves or their family: `my`, `mother` and the like, in four words or more."""
    words = _SPEECH.findall(value)
    if len(words) >= 4 and "&" not in value:  # `Holst & Son Ltd`
        return not vocabulary("speaker").isdisjoint(map(normal, words))
    return len(value) >= 6 and bool(_SPEAKER_CJK.search(value))


def _is_medical(value: str) -> bool:
    """Whether a short text names an illness or a drug, by the stem of one of its words."""
    words = _SPEECH.findall(value)
    known = closed_vocabularies()[PiiType.HEALTH]
    return len(words) <= 6 and any(
        _MEDICAL.fullmatch(word) or (len(word) > 3 and word in known) for word in map(normal, words)
    )


def _places(value: str) -> set[str]:
    lists, plain = names_and_places(), normal(value)
    forms = {plain, romanized(plain), plain.split(",")[0].strip()}
    return {kind for kind in ("city", "region", "country") if not forms.isdisjoint(lists[kind])}


def _person(raw: list[str], words: list[str]) -> set[str]:
    """Kinds of one to five words that may name a person, in whole or in part."""
    titles = vocabulary("titles")
    core = [word for word in words if word not in titles and word not in _PARTICLES]
    kinds = {"titled"} if core and words[0] in titles else set()
    if not core or len(core) > 5:
        return kinds
    first, last = names_and_places()["first"], names_and_places()["last"]
    if len(core) == 1:
        parts = [part for part in core[0].split("-") if part] or core
        single = {"first": first, "last": last}
        return kinds | {kind for kind, names in single.items() if all(part in names for part in parts)}
    if not _written_as_name(raw):
        return kinds
    firsts = [word.replace("-", "") in first or any(part in first for part in word.split("-")) for word in core]
    lasts = [any(part in last for part in word.split("-")) for word in core]
    initials = [len(word.strip(".")) == 1 or (len(word) <= 4 and word.count(".") >= 2) for word in core]
    return kinds | _person_of(firsts, lasts, initials)


def _person_of(firsts: list[bool], lasts: list[bool], initials: list[bool]) -> set[str]:
    known = sum(a or b for a, b in zip(firsts, lasts, strict=True))
    if (any(firsts) and known >= 2) or (any(lasts) and any(initials)):
        return {"full_name"}
    if len(firsts) > 3:
        return set()
    if any(initials) and not all(initials):
        return {"initial_name"}
    return {"half_name"} if known else set()


def _written_as_name(raw: list[str]) -> bool:
    """Capitals, but for little words; or no capitals at all."""
    if "".join(raw).islower():
        return True
    return all(not word[0].isascii() or word[0].isupper() or normal(word) in _PARTICLES for word in raw)


def _without_blanks(value: str) -> set[str]:
    """Chinese, Japanese and Korean: family name first, nothing between."""
    if _KANA_NAME.fullmatch(value):
        return {"half_name"}
    text = value.replace(" ", "").replace("·", "")
    kinds = {"street"} if len(value) > 6 and _CJK_STREET.search(value) else set()
    if _CJK_ORGANISATION.fullmatch(text):
        kinds.add("company")
    if not 2 <= len(text) <= 5:
        return kinds
    first, last = names_and_places()["first"], names_and_places()["last"]
    for cut in (1, 2):
        head, tail = text[:cut], text[cut:]
        if head in last and tail and tail in first:
            return kinds | {"full_name"}
        if head in last and 1 <= len(tail) <= 2 and len(text) <= cut + 2:
            return kinds | ({"full_name"} if len(text) == 3 else {"half_name"})
    return kinds


def _is_list_of_people(value: str) -> bool:
    parts = [part.split() for part in _LISTED.split(value) if part.strip()]
    named = [p for p in parts if 2 <= len(p) <= 4 and _person(p, [normal(w) for w in p]) & {"full_name", "half_name"}]
    return len(parts) >= 2 and len(named) >= max(1, len(parts) // 2)


def _is_organisation(raw: list[str], words: list[str]) -> bool:
    if len(words) < 2:
        return False
    known = vocabulary("organisations")
    at_end = raw[-1].isascii() and words[-1] in known
    return at_end or any(len(word) > 3 and word.strip(".,()") in known for word in words)


def _is_street(value: str, words: list[str]) -> bool:
    """A kind of street with a number; or without one, a short text that begins or ends with the kind."""
    if _POBOX.search(value):
        return True
    if not 1 < len(words) <= 14:
        return False
    after, before = vocabulary("street_after"), vocabulary("street_before")
    ends = any(word in after for word in words[1:]) or any(map(_STREET_END.fullmatch, words))
    if not ends and not any(word in before for word in words):
        return False
    if any(_HOUSE.fullmatch(word.strip(".,#")) for word in words):
        return True
    told = (words[-1] in after and len(words[-1]) > 3) or words[0] in before or _STREET_END.fullmatch(words[-1])
    return len(words) <= 5 and bool(told)
