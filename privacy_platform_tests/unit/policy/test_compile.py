"""What policies compile to: columns, types, keys, partitions and where every column comes from."""

import polars as pl
import pytest

from privacy_platform.policy.compile import aggregate_table, anonymized_table, raw_table
from privacy_platform.policy.load import PACKAGED, PolicySet, load_policies
from privacy_platform.policy.model import AggregatePolicy, DatasetPolicy
from privacy_platform.policy.tables import ColumnType, Partition, Table


@pytest.fixture(scope="module")
def policies() -> PolicySet:
    return load_policies([PACKAGED])


def types(table: Table) -> dict[str, str]:
    return {column.name: column.type.value for column in table.columns}


def test_raw_keeps_personal_fields_in_the_sealed_value_only(policies: PolicySet) -> None:
    for policy in policies.datasets.values():
        table = raw_table(policy)
        names = [column.name for column in table.columns]
        assert not set(policy.sealed_fields()) & set(names)
        assert set(policy.sealed_fields()) | set(policy.clear_fields()) == set(policy.fields)
        assert names == [policy.token_column, *policy.clear_fields(), "landing_order", "landed_at", "sealed"]
        sealed = table.column("sealed")
        assert sealed.sources == tuple(f"landing_{policy.dataset}.{name}" for name in policy.sealed_fields())
        assert not sealed.nullable


def test_the_published_users_are_exactly_the_policys_columns(policies: PolicySet) -> None:
    table = anonymized_table(policies.datasets["users"])
    assert types(table) == {
        "user_token": "text",
        "email_hash": "text",
        "first_name_hash": "text",
        "last_name_hash": "text",
        "age_bucket": "text",
        "gender": "text",
        "region": "text",
        "state": "text",
        "zip_prefix": "text",
        "ip_subnet": "text",
        "phone_suffix": "text",
        "created_at": "timestamptz",
        "last_login": "timestamptz",
        "account_status": "text",
        "subscription_tier": "text",
        "lifetime_value": "double precision",
        "total_purchases": "bigint",
        "anonymized_at": "timestamptz",
    }
    assert table.key == table.primary_key == ("user_token",)
    assert table.indexes == ()
    assert table.upstream == ("raw_users",)


def test_the_partitioned_events_have_the_day_in_their_key(policies: PolicySet) -> None:
    policy = policies.datasets["events"]
    raw, published = raw_table(policy), anonymized_table(policy)
    assert raw.primary_key == ("event_id", "timestamp")
    assert published.primary_key == ("timestamp", "event_id")
    assert raw.key == published.key == ("event_id",)
    assert published.indexes == (("user_token",),)
    assert raw.upstream == ("landing_events", "topic_events")
    assert published.upstream == ("raw_events", "anonymized_users")


def test_lineage_of_published_columns_names_what_they_are_read_from(policies: PolicySet) -> None:
    table = anonymized_table(policies.datasets["users"])
    assert table.column("email_hash").sources == ("raw_users.sealed",)
    assert table.column("email_hash").transformation == "hmac of email"
    assert table.column("gender").sources == ("raw_users.gender",)
    assert table.column("anonymized_at").sources == ()
    with pytest.raises(KeyError):
        table.column("email")


def test_aggregates_have_dimensions_then_measures(policies: PolicySet) -> None:
    table = aggregate_table(policies.aggregates["daily_event_metrics"], policies)
    assert types(table) == {
        "event_date": "date",
        "event_type": "text",
        "region": "text",
        "device_type": "text",
        "total_events": "bigint",
        "total_events_error_95": "double precision",
        "unique_users": "bigint",
        "unique_users_error_95": "double precision",
        "avg_session_duration": "double precision",
        "avg_session_duration_error_95": "double precision",
    }
    assert table.key == ("event_date", "event_type", "region", "device_type")
    assert table.upstream == ("anonymized_events", "anonymized_users")
    assert table.column("region").sources == ("anonymized_users.region",)
    assert table.column("avg_session_duration").sources == ("anonymized_events.timestamp",)
    assert table.column("total_events").sources == ("anonymized_events.user_token",)


def test_every_column_of_an_aggregate_tells_what_it_is_made_of(policies: PolicySet) -> None:
    for policy in policies.aggregates.values():
        table = aggregate_table(policy, policies)
        known = {
            f"{source}.{column.name}"
            for source in table.upstream
            for column in anonymized_table(policies.anonymized_tables[source]).columns
        }
        for column in table.columns:
            assert column.sources, (table.name, column.name)
            assert set(column.sources) <= known, (table.name, column.name)
            assert column.transformation


def test_the_exact_mode_is_one_line_away(policies: PolicySet) -> None:
    private = policies.aggregates["daily_event_metrics"]
    exact = aggregate_table(
        AggregatePolicy.model_validate(private.model_dump(mode="json") | {"mode": "exact_with_minimum"}), policies
    )
    assert [name for name in types(exact) if name.endswith("_error_95")] == []
    assert exact.comment.endswith("No group of fewer than 5 people.")
    assert "epsilon 1, delta 1e-07" in aggregate_table(private, policies).comment


def test_a_ratio_comes_from_the_columns_of_its_operands(policies: PolicySet) -> None:
    table = aggregate_table(policies.aggregates["product_metrics"], policies)
    assert table.column("conversion_rate").sources == ("anonymized_events.event_type",)
    assert set(table.column("total_revenue").sources) == {
        f"anonymized_events.{name}" for name in ("price", "quantity", "event_type")
    }


def test_a_suppressed_field_is_published_only_when_it_has_an_output(policies: PolicySet) -> None:
    document = policies.datasets["users"].model_dump(mode="json")
    document["fields"]["gender"]["technique"] = {"name": "suppress"}
    document["privacy_model"] = None
    policy = DatasetPolicy.model_validate(document)
    assert "gender" not in types(anonymized_table(policy))
    document["fields"]["gender"]["output"] = "gender"
    assert types(anonymized_table(DatasetPolicy.model_validate(document)))["gender"] == "text"


def test_every_column_type_has_its_polars_type() -> None:
    assert {kind: kind.polars for kind in ColumnType}[ColumnType.TIMESTAMP] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("suffix", ["all", "20260228", "20241231"])
def test_partitions_are_found_by_their_suffix(suffix: str) -> None:
    assert Partition.parse(suffix).suffix == suffix


def test_a_days_bounds_are_half_open_and_in_utc() -> None:
    bounds = Partition.parse("20261231").bounds
    assert bounds == "FOR VALUES FROM ('2026-12-31 00:00:00+00') TO ('2027-01-01 00:00:00+00')"
