"""Say which jobs would run: one line of JSON for each request in the list given as argument.

A request may have changes of the configuration (`config`), targets (`targets`, else all), rules after
which to end (`until`) and the folder in which it is made (`folder`, else here).

One process builds all DAGs, which is many times faster than a `snakemake --dry-run` for each.
"""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

CHECKSUM_BYTES = 20 * 10**9  # max-checksum-file-size of profiles/default


def jobs(changes: dict[str, Any], targets: list[str], until: list[str]) -> list[str]:
    """Return `rule run` for each job that would run with the configuration changed."""
    quiet = OutputSettings(dryrun=True, quiet={Quietness.ALL})
    with SnakemakeApi(quiet) as api:
        merged, resources = ConfigSettings(config=changes), ResourceSettings(cores=2)
        workflow = api.workflow(
            config_settings=merged, resource_settings=resources, snakefile=Path("Snakefile")
        )
        settings = DAGSettings(
            targets=set(targets), until=set(until), max_checksum_file_size=CHECKSUM_BYTES
        )
        dag = workflow.dag(settings)
        dag.execute_workflow(executor="dryrun")
        wanted = workflow._workflow.dag.needrun_jobs(exclude_finished=False)
        return sorted(f"{job.rule.name} {_where(job.wildcards_dict)}".strip() for job in wanted)


def _where(wildcards: dict[str, str] | None) -> str:
    return "/".join((wildcards or {}).values())


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    here = Path.cwd()
    for request in json.loads(sys.argv[1]):
        os.chdir(request.get("folder", here))
        targets, until = request.get("targets", ["all"]), request.get("until", [])
        print(json.dumps(jobs(request.get("config", {}), targets, until)))
