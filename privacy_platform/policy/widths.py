"""How wide a table may be: PostgreSQL keeps a row within one page, however long its texts are.

Long texts are moved out and leave 18 bytes, but PostgreSQL does not move what takes 24 bytes or less: so 24 is the most
that a text can take, and 8 what any number, date or boolean can. A policy whose rows could be too wide is refused when
it is loaded: it would fail one day, in the middle of a run, on the first record that fills its columns.
"""

from privacy_platform.anonymization.techniques import Generalize
from privacy_platform.policy.model import DatasetPolicy, SourceType

ROW_BYTES = 8160
_HEADER_BYTES = 24
_TEXT_BYTES, _OTHER_BYTES = 24, 8
# Beside its fields a raw row has a token, its order and time of landing and the sealed value.
_RAW_BYTES = 2 * _TEXT_BYTES + 2 * _OTHER_BYTES


def width_problem(policy: DatasetPolicy) -> str | None:
    """What is wrong with the width of a dataset's tables, and the mend; None if nothing is."""
    clear = [policy.fields[name].type is SourceType.STRING for name in policy.clear_fields()]
    published = [_is_text(policy, name) for name in policy.outputs()]
    for table, texts, own, mend in (
        ("raw", clear, _RAW_BYTES, "give some a sensitivity of medium, for those are sealed in one value"),
        ("anonymized", published, _OTHER_BYTES, "suppress some"),
    ):
        width = _HEADER_BYTES + len(texts) // 8 + own + sum(_TEXT_BYTES if text else _OTHER_BYTES for text in texts)
        if width > ROW_BYTES:
            return (
                f"fields: a row of {table}_{policy.dataset} could take {width} bytes and PostgreSQL takes {ROW_BYTES} "
                f"({sum(texts)} texts of {_TEXT_BYTES}, {len(texts) - sum(texts)} others of {_OTHER_BYTES}); {mend}, "
                "or say `type: integer` where texts are numbers"
            )
    return None


def _is_text(policy: DatasetPolicy, name: str) -> bool:
    """Whether a field is published as text, as it may be when it is generalized."""
    field = policy.fields[name]
    same = field.technique.output_type == "same" and not isinstance(field.technique, Generalize)
    return field.type is SourceType.STRING or not same
