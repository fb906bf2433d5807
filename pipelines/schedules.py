"""When things run: the nightly, the sweep, and publishing after a run that was partly red; and the end of runs whose process is gone.

What lives here: jobs, schedules, sensors. What does not: what they do (`assets`). After downtime only a schedule's latest tick runs; that is enough,
because every nightly works out for itself what is missing.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from pipelines import assets
from resources.dagster_resources import living_dagster_runs
from resources.errors import SettingsError
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


# A run is noted as alive once its process has loaded the code, which takes seconds.
STARTS_WITHIN = timedelta(minutes=5)
GOING = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
KILLED = (
    "The process of this run is gone: it was killed, or the machine was started again. "
    "What the run had committed stays, and the next run asks for the rest."
)


def killed_runs(instance: dg.DagsterInstance, location: str | None, now: datetime) -> list[dg.DagsterRun]:
    """Runs of a code location (None: of all) that Dagster takes for going on, though no process of this machine does them."""
    # First, or a run that ends between both looks would be taken for a killed one.
    living = living_dagster_runs(instance)
    records = instance.get_run_records(dg.RunsFilter(statuses=GOING, updated_before=now - STARTS_WITHIN))
    going = [record.dagster_run for record in records if record.dagster_run.run_id not in living]
    return [run for run in going if location in (None, _location_of(run) or location)]


def _location_of(run: dg.DagsterRun) -> str | None:
    """The code location that a run was launched from; None where Dagster's own command line did it, which is done in this project's DAGSTER_HOME alone."""
    return run.remote_job_origin.location_name if run.remote_job_origin else None


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Makes runs red whose process was killed: Dagster would take them for going on, and hold back every run after them.",
)
def end_killed_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Tell Dagster of runs whose process is gone; those that were told to end are cancelled, the others have failed."""
    origin = context.code_location_origin
    killed = killed_runs(context.instance, origin.location_name if origin else None, datetime.now(UTC))
    for run in killed:
        if run.status is dg.DagsterRunStatus.CANCELING:
            context.instance.report_run_canceled(run, KILLED)
        else:
            context.instance.report_run_failed(run, KILLED)
    return dg.SkipReason(f"Ended {len(killed)} runs whose process is gone." if killed else "Every run has its process.")


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Both schedules, in the configured zone; on from the start."""
    found = []
    for job, setting, cron in (
        (NIGHTLY, "SYNC_SCHEDULE", settings.sync_schedule),
        (SWEEP, "SYNC_SWEEP_SCHEDULE", settings.sync_sweep_schedule),
    ):
        try:
            schedule = dg.ScheduleDefinition(
                job=job,
                cron_schedule=cron,
                execution_timezone=settings.sync_time_zone,
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description=f"{job.description} {setting} says when, in the zone {settings.sync_time_zone}.",
            )
        except dg.DagsterInvalidDefinitionError:
            example = Settings.model_fields[setting.lower()].default
            raise SettingsError(
                f"{setting} is wrong: {cron!r} names no time. Write minute, hour, day, month and weekday. Example: {setting}={example!r}"
            ) from None
        found.append(schedule)
    return found
