"""What the packaged policies make of their columns for the risk report."""

from privacy_platform.policy.exposure import declared_columns
from privacy_platform.policy.load import load_policies


def test_every_published_column_that_can_be_known_is_a_quasi_identifier() -> None:
    policy = load_policies().datasets["users"]
    assert policy.privacy_model is not None

    declared = declared_columns(policy)

    assert {"age_bucket", "gender", "region", "state", "zip_prefix", "created_at", "ip_subnet", "phone_suffix"} == set(
        declared.quasi_identifiers
    )
    assert declared.quasi_identifiers == (*policy.privacy_model.quasi_identifiers, *declared.beyond_model)
    assert {"user_token", "email_hash"} <= set(declared.pseudonyms)
    assert not set(declared.pseudonyms) & set(declared.quasi_identifiers)
    assert "subscription_tier" in declared.sensitive
    assert declared.k == policy.privacy_model.k
    assert declared.one_record_a_person


def test_records_of_events_are_not_people() -> None:
    declared = declared_columns(load_policies().datasets["events"])

    assert not declared.one_record_a_person
    assert declared.k is None
    assert {"user_token", "event_id"} <= set(declared.pseudonyms)
    assert declared.beyond_model == ()
