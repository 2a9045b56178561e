"""The pipeline, from image labels to the table of results. Run it from this folder.

snakemake --cores 2                                      the embedded demo
snakemake --cores 2 --configfile params/embedded.yaml    another experiment
snakemake --cores 64 --profile slurm                     the same on a cluster
"""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from wsss.errors import WsssError
from wsss.runs.flow import FIGURES, TABLES, Flow
from wsss.runs.resume import note_head


configfile: "params.yaml"


try:
    flow = Flow(
        workflow.config_settings.config,
        ["params.yaml", *workflow.overwrite_configfiles],
    )
    flow.check_arrays(
        getattr(workflow.executor_settings, "array_jobs", None),
        workflow.resource_settings.nodes,
    )
except WsssError as error:
    raise WorkflowError(str(error)) from None

if workflow.is_main_process and flow.replaced():
    print(flow.replaced(), file=sys.stderr)

os.environ.update(flow.environment())
shell.prefix("set -euo pipefail; source workflow/tell.sh; ")


container: "envs/wsss.sif"


RUN = "{dataset}/{method}/{protocol}/s{seed}"


wildcard_constraints:
    **flow.constraints(),


scattergather:
    shard=flow.params.shards,


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/cam.smk"
include: "workflow/rules/refine.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/results.smk"


rule all:
    default_target: True
    input:
        rules.results.output,


onstart:
    note_head(sys.argv[1:])
    # Snakemake's default limit of 100 jobs a second wakes the scheduler every second once more for
    # each job that has ended: after 230 jobs 230 times a second. Without it, ends of jobs wake it.
    limit = workflow.scheduler.job_rate_limiter
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    if Path("results/table.md").is_file():
        print(Path("results/table.md").read_text(encoding="utf-8"))
        print(
            "Tables, figures and panels are in results/ (open results/table.html);"
        )
        print("`snakemake --report report.html` makes one page of all of it.")
