# From CAMs to pseudo labels: confident pixels, affinities, random walk, thresholds and CRF.


rule calibrate:
    input:
        data=flow.data("calibrate-{maps}"),
        maps=flow.file("{maps}.zip"),
    output:
        thresholds=f"work/{RUN}/thresholds-{{maps}}.json",
        record=f"work/{RUN}/calibrate-{{maps}}.json",
    log:
        f"logs/{RUN}/calibrate-{{maps}}.log",
    benchmark:
        f"benchmarks/{RUN}/calibrate-{{maps}}.tsv"
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 30),
    params:
        run=flow.name,
        settings=flow.settings("calibrate-{maps}"),
        code=flow.code("calibrate-{maps}"),
    shell:
        "python -m wsss calibrate {params.run} {wildcards.maps} "
        "2>&1 | tell {log} '{params.run} calibrate {wildcards.maps}'"


rule confident:
    input:
        data=flow.data("confident"),
        cam=flow.file("cam.zip"),
        thresholds=flow.thresholds("confident"),
    output:
        archive=f"work/{RUN}/confident.zip",
        record=f"work/{RUN}/confident.json",
    log:
        f"logs/{RUN}/confident.log",
    benchmark:
        f"benchmarks/{RUN}/confident.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: 8
    resources:
        gpu=flow.crf_gpus("confident"),
        mem_mb=lambda w, attempt: 8000 * attempt,
        runtime=growing(workflow, 120),
    params:
        run=flow.name,
        settings=flow.settings("confident"),
        code=flow.code("confident"),
    shell:
        "python -m wsss confident {params.run} --processes {threads} "
        "2>&1 | tell {log} '{params.run} confident'"


rule affinity:
    input:
        data=flow.data("affinity"),
        labels=flow.affinity_labels,
        weights=flow.weights("affinity"),
        initial_file=flow.initial_file("affinity"),
    output:
        weights=f"work/{RUN}/affinity.safetensors",
        record=f"work/{RUN}/affinity.json",
        curve=f"work/{RUN}/affinity.csv",
    log:
        f"logs/{RUN}/affinity.log",
    benchmark:
        f"benchmarks/{RUN}/affinity.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: per_gpu(workflow, 4)
    resources:
        **several_machines(workflow),
        gpu=1,
        nodes=1,
        mem_mb=per_gpu(workflow, flow.memory("affinity", 16000)),
        runtime=growing(workflow, 240),
    params:
        run=flow.name,
        settings=flow.settings("affinity"),
        code=flow.code("affinity"),
    shell:
        "python -m wsss affinity {params.run} "
        "--gpus {resources.gpu} --nodes {resources.nodes} "
        "2>&1 | tell {log} '{params.run} affinity'"


rule walk_shard:
    input:
        data=flow.data("walk"),
        network=flow.file("affinity.safetensors"),
        cam=flow.file("cam.zip"),
    output:
        temp(f"work/{RUN}/walk/{{scatteritem}}.zip"),
    log:
        f"logs/{RUN}/walk/{{scatteritem}}.log",
    benchmark:
        f"benchmarks/{RUN}/walk/{{scatteritem}}.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=flow.memory("affinity", 12000),
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("walk"),
        code=flow.code("walk"),
    shell:
        "python -m wsss walk {params.run} --shard {wildcards.scatteritem} "
        "2>&1 | tell {log} '{params.run} walk {wildcards.scatteritem}'"


rule walk:
    input:
        data=flow.data("walk"),
        network=flow.file("affinity.safetensors"),
        cam=flow.file("cam.zip"),
        shards=gather.shard(f"work/{RUN}/walk/{{scatteritem}}.zip", allow_missing=True),
    output:
        archive=f"work/{RUN}/walk.zip",
        record=f"work/{RUN}/walk.json",
    log:
        f"logs/{RUN}/walk.log",
    benchmark:
        f"benchmarks/{RUN}/walk.tsv"
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("walk"),
        code=flow.code("walk"),
    shell:
        "python -m wsss gather {params.run} walk "
        "2>&1 | tell {log} '{params.run} walk'"


# Only made when asked for: snakemake work/DATASET/METHOD/PROTOCOL/sSEED/instances.zip
rule instances_shard:
    input:
        data=flow.data("instances"),
        network=flow.file("affinity.safetensors"),
        cam=flow.file("cam.zip"),
        thresholds=flow.thresholds("instances"),
    output:
        temp(f"work/{RUN}/instances/{{scatteritem}}.zip"),
    log:
        f"logs/{RUN}/instances/{{scatteritem}}.log",
    benchmark:
        f"benchmarks/{RUN}/instances/{{scatteritem}}.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=flow.memory("affinity", 12000),
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("instances"),
        code=flow.code("instances"),
    shell:
        "python -m wsss instances {params.run} --shard {wildcards.scatteritem} "
        "2>&1 | tell {log} '{params.run} instances {wildcards.scatteritem}'"


rule instances:
    input:
        data=flow.data("instances"),
        network=flow.file("affinity.safetensors"),
        cam=flow.file("cam.zip"),
        thresholds=flow.thresholds("instances"),
        shards=gather.shard(
            f"work/{RUN}/instances/{{scatteritem}}.zip", allow_missing=True
        ),
    output:
        archive=f"work/{RUN}/instances.zip",
        record=f"work/{RUN}/instances.json",
    log:
        f"logs/{RUN}/instances.log",
    benchmark:
        f"benchmarks/{RUN}/instances.tsv"
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("instances"),
        code=flow.code("instances"),
    shell:
        "python -m wsss gather {params.run} instances "
        "2>&1 | tell {log} '{params.run} instances'"


rule pseudo:
    input:
        data=flow.data("pseudo"),
        maps=flow.maps,
        thresholds=flow.thresholds("pseudo"),
        regions=flow.regions,
        saliency=flow.saliency,
    output:
        archive=f"work/{RUN}/pseudo.zip",
        record=f"work/{RUN}/pseudo.json",
    log:
        f"logs/{RUN}/pseudo.log",
    benchmark:
        f"benchmarks/{RUN}/pseudo.tsv"
    wildcard_constraints:
        method=flow.computing("pseudo"),
    conda:
        "../../envs/wsss.yaml"
    threads: 8
    resources:
        gpu=flow.crf_gpus("pseudo"),
        mem_mb=lambda w, attempt: 8000 * attempt,
        runtime=growing(workflow, 120),
    params:
        run=flow.name,
        settings=flow.settings("pseudo"),
        code=flow.code("pseudo"),
    shell:
        "python -m wsss pseudo {params.run} --processes {threads} "
        "2>&1 | tell {log} '{params.run} pseudo'"
