# Scores of seeds, walks, pseudo labels, masks and boxes, each with its protocol.


rule evaluate:
    input:
        data=flow.data("eval/{what}"),
        scored=flow.scored,
        thresholds=flow.thresholds("eval/{what}"),
    output:
        record=f"work/{RUN}/eval/{{what}}.json",
        images=f"work/{RUN}/eval/{{what}}.csv",
    log:
        f"logs/{RUN}/eval/{{what}}.log",
    benchmark:
        f"benchmarks/{RUN}/eval/{{what}}.tsv"
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("eval/{what}"),
        code=flow.code("eval/{what}"),
    shell:
        "python -m wsss evaluate {params.run} {wildcards.what} "
        "2>&1 | tell {log} '{params.run} eval/{wildcards.what}'"


rule done:
    input:
        flow.finished,
    output:
        touch("work/{dataset}/{method}/{protocol}/done"),
    localrule: True
