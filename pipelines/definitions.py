"""The one assembler: assets, checks, jobs, schedules, sensors, resources. No logic. Loads with no setting made."""

import dagster as dg

from pipelines.assets import accounts, partitions, publish_asset, stream_asset
from pipelines.checks import asset_checks
from pipelines.schedules import NIGHTLY, PUBLISH, SWEEP, end_killed_runs, publish_after_red_run, schedules
from pipelines.streams import changing
from resources.contract import Contract, load_contract
from resources.dagster_resources import AppointeddResource, WarehouseResource
from resources.settings import Settings, load_settings


def build(settings: Settings, contract: Contract) -> dg.Definitions:
    """The definitions for some settings and a contract: they decide the partitions, the schedules and the streams."""
    streams = changing(contract)
    change_days = partitions(settings)
    return dg.Definitions(
        assets=[accounts, *(stream_asset(stream, change_days) for stream in streams), publish_asset(streams)],
        asset_checks=asset_checks(streams),
        jobs=[NIGHTLY, SWEEP, PUBLISH],
        schedules=schedules(settings),
        sensors=[publish_after_red_run, end_killed_runs],
        resources={"appointedd": AppointeddResource(), "warehouse": WarehouseResource()},
        # One process: a multiprocess step costs seconds, and all steps share one account list and one lease.
        executor=dg.in_process_executor,
    )


_settings = load_settings()
defs = build(_settings, load_contract(_settings.appointedd_contract))
