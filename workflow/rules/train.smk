# Trainings of every network in a method's chain, on image-level labels.


rule train:
    input:
        data=flow.data("{network}"),
        weights=flow.weights("{network}"),
        before=flow.before,
        text=flow.text,
    output:
        weights=f"work/{RUN}/{{network}}.safetensors",
        record=f"work/{RUN}/{{network}}.json",
        curve=f"work/{RUN}/{{network}}.csv",
    log:
        f"logs/{RUN}/{{network}}.log",
    benchmark:
        f"benchmarks/{RUN}/{{network}}.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: per_gpu(workflow, 4)
    resources:
        **several_machines(workflow),
        gpu=1,
        nodes=1,
        mem_mb=per_gpu(workflow, flow.memory("{network}", 16000)),
        runtime=growing(workflow, 480),
    params:
        run=flow.name,
        settings=flow.settings("{network}"),
        code=flow.code("{network}"),
    shell:
        "python -m wsss train {params.run} {wildcards.network} "
        "--gpus {resources.gpu} --nodes {resources.nodes} "
        "2>&1 | tell {log} '{params.run} {wildcards.network}'"
