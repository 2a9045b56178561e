# The segmenter, trained on pseudo labels or true masks, and its predictions; the predictions of a
# method's own decoder.


rule segmenter:
    input:
        data=flow.data("segmenter"),
        labels=flow.labels,
        weights=flow.weights("segmenter"),
        initial_file=flow.initial_file("segmenter"),
    output:
        weights=f"work/{RUN}/segmenter.safetensors",
        record=f"work/{RUN}/segmenter.json",
        curve=f"work/{RUN}/segmenter.csv",
    log:
        f"logs/{RUN}/segmenter.log",
    benchmark:
        f"benchmarks/{RUN}/segmenter.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: per_gpu(workflow, 4)
    resources:
        **several_machines(workflow),
        gpu=1,
        nodes=1,
        mem_mb=per_gpu(workflow, flow.memory("segmenter", 24000)),
        runtime=growing(workflow, 1440),
    params:
        run=flow.name,
        settings=flow.settings("segmenter"),
        code=flow.code("segmenter"),
    shell:
        "python -m wsss segmenter {params.run} "
        "--gpus {resources.gpu} --nodes {resources.nodes} "
        "2>&1 | tell {log} '{params.run} segmenter'"


rule masks_shard:
    input:
        data=flow.data("masks"),
        network=flow.file("segmenter.safetensors"),
    output:
        temp(f"work/{RUN}/masks/{{scatteritem}}.zip"),
    log:
        f"logs/{RUN}/masks/{{scatteritem}}.log",
    benchmark:
        f"benchmarks/{RUN}/masks/{{scatteritem}}.tsv"
    wildcard_constraints:
        method=flow.computing("masks"),
    conda:
        "../../envs/wsss.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=flow.memory("segmenter", 12000),
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("masks"),
        code=flow.code("masks"),
    shell:
        "python -m wsss masks {params.run} --shard {wildcards.scatteritem} "
        "2>&1 | tell {log} '{params.run} masks {wildcards.scatteritem}'"


rule masks:
    input:
        data=flow.data("masks"),
        network=flow.file("segmenter.safetensors"),
        shards=gather.shard(f"work/{RUN}/masks/{{scatteritem}}.zip", allow_missing=True),
    output:
        archive=f"work/{RUN}/masks.zip",
        record=f"work/{RUN}/masks.json",
    log:
        f"logs/{RUN}/masks.log",
    benchmark:
        f"benchmarks/{RUN}/masks.tsv"
    wildcard_constraints:
        method=flow.computing("masks"),
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("masks"),
        code=flow.code("masks"),
    shell:
        "python -m wsss gather {params.run} masks "
        "2>&1 | tell {log} '{params.run} masks'"


rule decode_shard:
    input:
        data=flow.data("decode"),
        network=flow.cam_network,
    output:
        temp(f"work/{RUN}/decode/{{scatteritem}}.zip"),
    log:
        f"logs/{RUN}/decode/{{scatteritem}}.log",
    benchmark:
        f"benchmarks/{RUN}/decode/{{scatteritem}}.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=lambda w, attempt: 12000 * attempt,
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("decode"),
        code=flow.code("decode"),
    shell:
        "python -m wsss decode {params.run} --shard {wildcards.scatteritem} "
        "2>&1 | tell {log} '{params.run} decode {wildcards.scatteritem}'"


rule decode:
    input:
        data=flow.data("decode"),
        network=flow.cam_network,
        shards=gather.shard(
            f"work/{RUN}/decode/{{scatteritem}}.zip", allow_missing=True
        ),
    output:
        archive=f"work/{RUN}/decode.zip",
        record=f"work/{RUN}/decode.json",
    log:
        f"logs/{RUN}/decode.log",
    benchmark:
        f"benchmarks/{RUN}/decode.tsv"
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 60),
    params:
        run=flow.name,
        settings=flow.settings("decode"),
        code=flow.code("decode"),
    shell:
        "python -m wsss gather {params.run} decode "
        "2>&1 | tell {log} '{params.run} decode'"
