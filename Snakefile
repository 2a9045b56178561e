"""The pipeline, from image labels to the table of results.

snakemake --cores 2                                      the embedded demo
snakemake --cores 2 --configfile params/embedded.yaml    another experiment
snakemake --cores 2 --directory study                    a study in a folder of its own
snakemake --cores 64 --profile slurm                     the same on a cluster
"""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from wsss.errors import WsssError
from wsss.report.tables.terminal import for_terminal
from wsss.runs.checkout import Checkout
from wsss.runs.flow import Flow
from wsss.runs.missing import check_before_plan
from wsss.runs.outputs import FIGURES, TABLES, localization_tables, panels
from wsss.runs.resources import (
    collect_garbage_rarely,
    configuration,
    executor_limits,
    lift_rate_limit,
    several_machines,
)
from wsss.runs.resume import note_head
from wsss.runs.scaling import growing, limit_gpus, per_gpu, rules_on_head

checkout = Checkout(workflow)
collect_garbage_rarely()


configfile: checkout.params_file


try:
    flow = Flow(*configuration(workflow, config, checkout))
    flow.check_arrays(*executor_limits(workflow))
    if not checkout.is_module:
        check_before_plan(workflow, flow.params, WorkflowError)
except WsssError as error:
    raise WorkflowError(str(error)) from None

if getattr(workflow, "is_main_process", True):
    from wsss.stages.refresh import refresh

    try:
        for change in refresh(flow.params):
            print(change, file=sys.stderr)
    except WsssError as error:
        raise WorkflowError(str(error)) from None
    if replaced := flow.replaced():
        print(replaced, file=sys.stderr)

limit_gpus(workflow)
os.environ.update(flow.environment())
shell.prefix(checkout.shell_functions("workflow/tell.sh"))


container: checkout.path("envs/wsss.sif")


RUN = "{dataset}/{method}/{protocol}/s{seed}"


wildcard_constraints:
    **flow.constraints(),


scattergather:
    shard=flow.params.shards,


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/cam.smk"
include: "workflow/rules/import.smk"
include: "workflow/rules/refine.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/results.smk"


workflow.localrules(*rules_on_head(workflow))


rule all:
    default_target: True
    input:
        rules.results.output,
        flow.basis(workflow),


onstart:
    note_head(sys.argv[1:], workflow.rundir)
    lift_rate_limit(workflow)


onsuccess:
    if Path(RESULTS, "table.md").is_file():
        table = Path(RESULTS, "table.md").read_text(encoding="utf-8")
        print(for_terminal(table, os.environ.get("WSSS_WIDTH", "")))
        print(
            f"Tables, figures and panels are in {RESULTS}/ (open {RESULTS}/table.html);"
        )
        print("`snakemake --report report.html` makes one page of all of it.")
