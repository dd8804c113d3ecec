"""Normal forms of words, so that a name is found however it is written."""

import unicodedata
from functools import lru_cache

__all__ = ["has_letters_of", "normal", "romanized"]

_SPECIAL = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ß": "ss", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th", "ð": "d"})
_CYRILLIC_GREEK = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ж": "zh", "з": "z", "и": "i", "й": "y", "к": "k",
    "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u", "ф": "f", "х": "kh",
    "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ы": "y", "ь": "", "э": "e", "ю": "yu", "я": "ya", "і": "i",
    "ї": "yi", "є": "ye", "ґ": "g", "ј": "j", "љ": "lj", "њ": "nj", "ћ": "c", "џ": "dz",
    "α": "a", "β": "v", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i", "κ": "k", "λ": "l",
    "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s", "ς": "s", "τ": "t", "υ": "y", "φ": "f",
    "χ": "ch", "ψ": "ps", "ω": "o",
}  # fmt: skip
_ROMAN = str.maketrans(_CYRILLIC_GREEK)


@lru_cache(maxsize=65536)
def normal(word: str) -> str:
    """Without case, surrounding blanks and, in alphabets that have them, diacritics (NFKD)."""
    word = word.strip().casefold()
    if word.isascii():
        return word
    decomposed = unicodedata.normalize("NFKD", word.translate(_SPECIAL))
    latin = "".join(character for character in decomposed if not "\u0300" <= character <= "\u036f")
    return unicodedata.normalize("NFC", latin)


def romanized(word: str) -> str:
    """A normal form in Cyrillic or Greek letters written in Latin ones; others as they are."""
    return word.translate(_ROMAN)


def has_letters_of(text: str, first: str, last: str) -> bool:
    """Whether a character of a block of Unicode, from ``first`` to ``last``, occurs."""
    return any(first <= character <= last for character in text)
