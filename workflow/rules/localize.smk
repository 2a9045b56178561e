# CAMs of the training images, in shards.


rule cam_shard:
    input:
        data=flow.data,
        network=flow.localizer,
    output:
        temp(f"work/{RUN}/cam/{{scatteritem}}.zip"),
    log:
        f"logs/{RUN}/cam/{{scatteritem}}.log",
    benchmark:
        f"benchmarks/{RUN}/cam/{{scatteritem}}.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=flow.memory(None, 12000),
        runtime=lambda w, attempt: 60 * attempt,
    params:
        run=flow.name,
        settings=flow.settings("cam"),
        code=flow.code("cam"),
    shell:
        "python -m wsss cam {params.run} --shard {wildcards.scatteritem} "
        "2>&1 | tell {log} '{params.run} cam {wildcards.scatteritem}'"


rule cam:
    input:
        # The shards are temporary: a new network would go unnoticed without its own line.
        data=flow.data,
        network=flow.localizer,
        shards=gather.shard(f"work/{RUN}/cam/{{scatteritem}}.zip", allow_missing=True),
    output:
        archive=f"work/{RUN}/cam.zip",
        record=f"work/{RUN}/cam.json",
    log:
        f"logs/{RUN}/cam.log",
    benchmark:
        f"benchmarks/{RUN}/cam.tsv"
    localrule: True
    conda:
        "../../envs/wsss.yaml"
    params:
        run=flow.name,
        settings=flow.settings("cam"),
        code=flow.code("cam"),
    shell:
        "python -m wsss gather {params.run} cam " "2>&1 | tell {log} '{params.run} cam'"
