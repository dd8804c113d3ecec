"""The code location: policies in, asset graph out. Loading connects to nothing."""

import dagster as dg

from privacy_platform.defs.assets import build_assets
from privacy_platform.defs.automation import daily_schedule, landing_sensor
from privacy_platform.defs.resources import SparkResource, WarehouseResource
from privacy_platform.defs.streams import stream_jobs, stream_sensor, topic_specs
from privacy_platform.policy.load import PolicySet, load_policies


def build_definitions(policies: PolicySet | None = None) -> dg.Definitions:
    """Definitions of the given policies, by default the packaged ones and the user's."""
    policies = policies or load_policies()
    jobs = stream_jobs(policies)
    return dg.Definitions(
        assets=[*build_assets(policies), *topic_specs(policies)],
        jobs=jobs,
        sensors=[landing_sensor(policies), *([stream_sensor(policies, jobs)] if jobs else [])],
        schedules=[daily_schedule(policies)],
        resources={"spark": SparkResource(), "warehouse": WarehouseResource()},
        # One process a run: its assets share one Spark session.
        executor=dg.in_process_executor,
    )


@dg.definitions
def definitions() -> dg.Definitions:
    """What `dagster` loads."""
    return build_definitions()
