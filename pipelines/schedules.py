"""When things run: the nightly, the sweep, and publishing after a run that was partly red.

What lives here: jobs, schedules, the sensor. What does not: what they do (`assets`). After downtime only a schedule's latest tick runs; that is enough,
because every nightly works out for itself what is missing.
"""

import dagster as dg

from pipelines import assets
from resources.settings import Settings

NIGHTLY = dg.define_asset_job(
    assets.NIGHTLY,
    selection=dg.AssetSelection.all(),
    description="Reads what changed in every stream, checks, publishes.",
)
SWEEP = dg.define_asset_job(
    assets.SWEEP,
    selection=dg.AssetSelection.all(),
    description="Reads every stream whole, finds what was deleted, checks, publishes.",
)
PUBLISH = dg.define_asset_job(
    "publish_only",
    selection=dg.AssetSelection.groups("published"),
    description="Checks and publishes what is committed.",
)


@dg.run_failure_sensor(
    monitored_jobs=[NIGHTLY, SWEEP],
    request_job=PUBLISH,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="A failed step skips what comes after it, publishing too; what did work is published all the same.",
)
def publish_after_red_run(context: dg.RunFailureSensorContext) -> dg.RunRequest:
    """Publish once for each run that failed; the checks still decide whether the file is replaced."""
    return dg.RunRequest(run_key=f"after-{context.dagster_run.run_id}")


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Both schedules, in the configured zone; on from the start."""
    return [
        dg.ScheduleDefinition(
            job=job,
            cron_schedule=cron,
            execution_timezone=settings.sync_time_zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
        for job, cron in ((NIGHTLY, settings.sync_schedule), (SWEEP, settings.sync_sweep_schedule))
    ]
