# CAMs of the training images, computed in shards; boxes, for methods that localize.


rule cam_shard:
    input:
        data=flow.data("{cams}"),
        network=flow.cam_source_file,
    output:
        temp(f"work/{RUN}/{{cams}}/{{scatteritem}}.zip"),
    log:
        f"logs/{RUN}/{{cams}}/{{scatteritem}}.log",
    benchmark:
        f"benchmarks/{RUN}/{{cams}}/{{scatteritem}}.tsv"
    wildcard_constraints:
        method=flow.computing("cam"),
    conda:
        "../../envs/wsss.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=flow.memory(None, 12000),
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        network=flow.cam_source,
        settings=flow.settings("{cams}"),
        code=flow.code("{cams}"),
    shell:
        "python -m wsss cam {params.run} {params.network} --shard {wildcards.scatteritem} "
        "2>&1 | tell {log} '{params.run} {wildcards.cams} {wildcards.scatteritem}'"


rule boxes:
    input:
        data=flow.data("boxes"),
        network=flow.cam_network,
    output:
        archive=f"work/{RUN}/boxes.zip",
        record=f"work/{RUN}/boxes.json",
    log:
        f"logs/{RUN}/boxes.log",
    benchmark:
        f"benchmarks/{RUN}/boxes.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=lambda w, attempt: 12000 * attempt,
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("boxes"),
        code=flow.code("boxes"),
    shell:
        "python -m wsss boxes {params.run} " "2>&1 | tell {log} '{params.run} boxes'"


rule cam:
    input:
        # The shards are temporary: without this line Snakemake would not notice a new network.
        data=flow.data("{cams}"),
        network=flow.cam_source_file,
        shards=gather.shard(
            f"work/{RUN}/{{cams}}/{{scatteritem}}.zip", allow_missing=True
        ),
    output:
        archive=f"work/{RUN}/{{cams}}.zip",
        record=f"work/{RUN}/{{cams}}.json",
    log:
        f"logs/{RUN}/{{cams}}.log",
    benchmark:
        f"benchmarks/{RUN}/{{cams}}.tsv"
    wildcard_constraints:
        method=flow.computing("cam"),
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("{cams}"),
        code=flow.code("{cams}"),
    shell:
        "python -m wsss gather {params.run} {wildcards.cams} "
        "2>&1 | tell {log} '{params.run} {wildcards.cams}'"
