"""A complete policy from a look at the data: every column present, each with what the detector suggests.

Contract: :func:`draft_policy` gives the text of a policy file that validates. A column the detector is unsure about is
suppressed, with a comment that says why, so that the policy can run at once and publishes nothing by mistake. What
cannot be drafted (no column names the data subject) is refused with what to say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from pydantic import ValidationError

from privacy_platform.detection.detector import Column, Table
from privacy_platform.detection.text import normal, romanized
from privacy_platform.detection.types import TRAITS, Finding, PiiType
from privacy_platform.detection.values import is_missing
from privacy_platform.policy.load import PolicyError
from privacy_platform.policy.model import RESERVED, DatasetPolicy

__all__ = ["draft_policy"]

_SURE = 0.8
_SUBJECTS = (PiiType.USER_ID, PiiType.EMAIL, PiiType.NATIONAL_ID, PiiType.USERNAME, PiiType.PHONE)
_TECHNIQUES: dict[PiiType, str] = {
    PiiType.PERSON_NAME: "{hash: {normalize: casefold, domain: person_name}}",
    PiiType.EMAIL: "{hmac: {normalize: email, domain: email}}",
    PiiType.PHONE: "{mask: {kind: phone, keep_last: 4}}",
    PiiType.POSTAL_CODE: "{mask: {kind: zip, keep_first: 3}}",
    PiiType.IP_ADDRESS: "{mask: {kind: ip}}",
    PiiType.AGE: "{bucket: {edges: [0, 18, 25, 35, 45, 55, 65]}}",
    PiiType.CITY: "{generalize: {hierarchy: city, level: region}}",
}
_FORMS = (
    ("boolean", re.compile(r"true|false", re.I)),
    ("integer", re.compile(r"[-+]?(?:0|[1-9]\d{0,17})")),
    ("number", re.compile(r"[-+]?\d{1,15}(?:\.\d+)?(?:[eE][-+]?\d{1,2})?")),
    ("date", re.compile(r"\d{4}-\d\d-\d\d")),
    ("timestamp", re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?")),
)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    column: Column
    finding: Finding
    type: str


def draft_policy(
    dataset: str, files: str, table: Table, findings: Sequence[Finding], *, subject: str | None = None
) -> str:
    """The text of a policy for a table.

    Args:
        dataset: The dataset's name.
        files: The pattern of its files' names in the landing folder.
        table: A sample of the data.
        findings: What the detector says of its columns.
        subject: The column that names the data subject; the likeliest if not given.

    Raises:
        PolicyError: no column names the data subject, or the draft does not validate.
    """
    names = _field_names([column.name for column in table.columns])
    fields = [
        _Field(name, column, finding, _source_type(column))
        for name, column, finding in zip(names, table.columns, findings, strict=True)
    ]
    who = _subject(fields, subject)
    key = _key(fields, who)
    lines = [
        f"# Drafted from a look at {table.name}; read it through.",
        "# Columns marked `unsure` are suppressed until you decide.",
        f"dataset: {dataset}",
        f"description: {_quoted(f'Drafted from {table.name}.')}",
        "source:",
        f"  files: [{_quoted(files)}]",
        f"subject: {who.name}",
        f"key: {key.name}",
        "fields:",
    ]
    for field in fields:
        lines += _entry(field, is_subject=field is who, is_key=field is key)
    text = "\n".join(lines) + "\n"
    try:
        DatasetPolicy.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PolicyError(f"No policy can be drafted: {where or dataset}: {first['msg']}") from None
    return text


def _field_names(columns: Sequence[str]) -> list[str]:
    """Names that policies allow, distinct."""
    names: list[str] = []
    for number, column in enumerate(columns, start=1):
        plain = re.sub(r"[^a-z0-9]+", "_", romanized(normal(column))).strip("_")[:40]
        name = plain if re.match(r"[a-z]", plain) else f"column_{number}"
        if name in RESERVED or name in names:
            name = f"{name}_{number}"
        names.append(name)
    return names


def _source_type(column: Column) -> str:
    values = [value for value in column.values if not is_missing(value)]
    for kind, form in _FORMS:
        if values and all(form.fullmatch(value) for value in values):
            return kind
    return "string"


def _distinct(field: _Field) -> bool:
    values = field.column.values
    return len(values) > 0 and len(set(values)) == len(values) and len(values) >= min(field.column.rows, 100)


def _subject(fields: Sequence[_Field], wanted: str | None) -> _Field:
    if wanted is not None:
        chosen = next((f for f in fields if wanted in (f.name, f.column.name)), None)
        if chosen is None:
            raise PolicyError(
                f"There is no column `{wanted}` to be the subject; there are {', '.join(f.name for f in fields)}."
            )
        return chosen
    for kind in _SUBJECTS:
        of_kind = [f for f in fields if f.finding.type is kind]
        if of_kind:
            return max(of_kind, key=_distinct)
    raise PolicyError(
        "No column looks like it names the data subject (an id of a person, an e-mail): say which with --subject."
    )


def _key(fields: Sequence[_Field], subject: _Field) -> _Field:
    """The subject if it is distinct, else a distinct column that is not personal."""
    if _distinct(subject):
        return subject
    ids = [f for f in fields if _distinct(f) and not f.finding.personal and f.type in ("string", "integer")]
    return min(ids, key=lambda f: ("id" not in f.name.split("_"), f.type != "string")) if ids else subject


def _entry(field: _Field, *, is_subject: bool, is_key: bool) -> list[str]:
    finding, traits = field.finding, TRAITS[field.finding.type]
    sensitivity, role, output, kind = finding.sensitivity, traits.role, "", field.type
    comment = f"{traits.words.capitalize()}."
    head: list[str] = []
    if is_subject:
        technique, sensitivity, role, kind, output = "tokenize", "high", "identifier", "string", f"{field.name}_token"
        comment = "Token of the data subject; pseudonymous."
    elif is_key:
        technique, sensitivity, role, kind = "keep", "none", "plain", "string"
        comment = "Names the record."
    elif finding.confidence < _SURE:
        reason = "; ".join(finding.evidence[:2]) or "nothing is known of it"
        head = [f"  # unsure ({finding.type}, {finding.confidence:.0%}): {reason}"]
        technique, sensitivity, comment = (
            "suppress",
            "medium",
            "Unsure what this is; suppressed until somebody decides.",
        )
        role = "sensitive"
    else:
        technique = _technique(finding, kind)
        if technique.startswith(("{hash", "{hmac", "{mask", "{generalize")) or technique == "scrub":
            kind = "string"
        if technique == "scrub":
            sensitivity = "medium"
    parts = [
        f"type: {kind}",
        f"pii: {finding.type}",
        f"sensitivity: {sensitivity}",
        f"role: {role}",
        f"technique: {technique}",
    ]
    if output:
        parts.append(f"output: {output}")
    if field.column.name != field.name:
        parts.append(f"column: {_quoted(field.column.name)}")
    return [*head, f"  {field.name}:", f"    {{{', '.join(parts)},", f"     comment: {_quoted(comment)}}}"]


def _technique(finding: Finding, kind: str) -> str:
    if finding.type is PiiType.AGE and kind not in ("integer", "number"):
        return "suppress"
    if finding.type is PiiType.FREE_TEXT and finding.sensitivity == "high":
        return "suppress"
    if finding.technique in ("hash", "hmac") and finding.type not in _TECHNIQUES:
        return f"{{{finding.technique}: {{domain: {finding.type}}}}}"
    return _TECHNIQUES.get(finding.type, finding.technique)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', "'").replace("\n", " ") + '"'
