"""What each column of a published table is to somebody who wants to re-identify, as the dataset's policy has it."""

from privacy_platform.anonymization.risk.choice import Declared
from privacy_platform.policy.model import DatasetPolicy, FieldRole

__all__ = ["declared_columns"]

# Techniques whose result says nothing by itself: what it tells is which records belong together.
_LINKING = frozenset({"hash", "hmac", "tokenize"})


def declared_columns(policy: DatasetPolicy) -> Declared:
    """The published columns by what they are.

    Quasi-identifiers are those of the privacy model, and also every other published column whose field the policy calls
    a quasi-identifier or identifier: a masked phone number can be known as well. Record keys count as pseudonyms.
    """
    outputs = policy.outputs()
    model = policy.privacy_model
    modelled = model.quasi_identifiers if model else ()
    linking = {
        column
        for name, column in outputs.items()
        if policy.fields[name].technique.name in _LINKING or name == policy.key
    }
    known = {FieldRole.IDENTIFIER, FieldRole.QUASI_IDENTIFIER}
    beyond = [
        column
        for name, column in outputs.items()
        if policy.fields[name].role in known and column not in linking and column not in modelled
    ]
    return Declared(
        quasi_identifiers=(*modelled, *beyond),
        sensitive=tuple(
            column
            for name, column in outputs.items()
            if policy.fields[name].role is FieldRole.SENSITIVE or (model and column in model.sensitive)
        ),
        pseudonyms=tuple(column for column in outputs.values() if column in linking and column not in modelled),
        beyond_model=tuple(beyond) if model else (),
        k=model.k if model else None,
        one_record_a_person=policy.key == policy.subject,
    )
