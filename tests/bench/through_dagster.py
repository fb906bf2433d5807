"""The nightly job through Dagster, in this process, with the settings of the environment: what Dagster adds is told apart from the sync itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> int:
    """Run the job once; 0 where it succeeds."""
    Path(os.environ["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)
    import dagster as dg

    from pipelines.definitions import defs

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.get() as instance:
        job = defs.resolve_job_def("nightly")
        done = job.execute_in_process(instance=instance, run_config=quiet, raise_on_error=False)
        return 0 if done.success else 1


if __name__ == "__main__":
    sys.exit(main())
