# Datasets, what runs share beside them, and initial weights. Checkouts can share the results of `draw` and `weights` (--cache);
# Snakemake forbids a benchmark for such rules. Raw files are no inputs: the Snakefile compares them.

INDEX = {
    "index": "work/{dataset}/index.json",
    "train": "work/{dataset}/index/train.json",
    "train_truth": "work/{dataset}/index/train_truth.json",
    "val": "work/{dataset}/index/val.json",
    "val_truth": "work/{dataset}/index/val_truth.json",
    "files": "work/{dataset}/files.json",
}


rule draw:
    output:
        **INDEX,
        images="work/{dataset}/images.zip",
        record="work/{dataset}/data.json",
    log:
        "logs/{dataset}/data.log",
    wildcard_constraints:
        dataset=flow.made_with("images.zip"),
    localrule: True
    conda:
        "../../envs/wsss.yaml"
    params:
        settings=flow.data_settings,
        code=flow.data_code,
    shell:
        "python -m wsss data prepare {wildcards.dataset} "
        "2>&1 | tell {log} '{wildcards.dataset} draw'"


rule convert:
    output:
        **INDEX,
        masks="work/{dataset}/masks.zip",
        record="work/{dataset}/data.json",
    log:
        "logs/{dataset}/data.log",
    benchmark:
        "benchmarks/{dataset}/data.tsv"
    wildcard_constraints:
        dataset=flow.made_with("masks.zip"),
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 8000 * attempt,
        runtime=growing(workflow, 240),
    params:
        settings=flow.data_settings,
        code=flow.data_code,
    shell:
        "python -m wsss data prepare {wildcards.dataset} "
        "2>&1 | tell {log} '{wildcards.dataset} convert'"


rule index:
    output:
        **INDEX,
        record="work/{dataset}/data.json",
    log:
        "logs/{dataset}/data.log",
    benchmark:
        "benchmarks/{dataset}/data.tsv"
    wildcard_constraints:
        dataset=flow.made_with(None),
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 120),
    params:
        settings=flow.data_settings,
        code=flow.data_code,
    shell:
        "python -m wsss data prepare {wildcards.dataset} "
        "2>&1 | tell {log} '{wildcards.dataset} index'"


rule text:
    input:
        # The classes; new images do not change the words.
        ancient("work/{dataset}/index/train.json"),
    output:
        vectors="work/{dataset}/text-{text}.safetensors",
        record="work/{dataset}/text-{text}.json",
    log:
        "logs/{dataset}/text-{text}.log",
    localrule: True
    conda:
        "../../envs/wsss.yaml"
    params:
        settings=flow.text_settings,
        code=flow.text_code,
    shell:
        "python -m wsss text {wildcards.dataset} {wildcards.text} "
        "2>&1 | tell {log} '{wildcards.dataset} text'"


rule saliency:
    input:
        flow.saliency_images,
    output:
        maps="work/{dataset}/saliency-{saliency}.zip",
        record="work/{dataset}/saliency-{saliency}.json",
    log:
        "logs/{dataset}/saliency-{saliency}.log",
    benchmark:
        "benchmarks/{dataset}/saliency-{saliency}.tsv"
    conda:
        "../../envs/wsss.yaml"
    threads: 4
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 240),
    params:
        code=flow.saliency_code,
    shell:
        "python -m wsss saliency {wildcards.dataset} --threads {threads} "
        "2>&1 | tell {log} '{wildcards.dataset} saliency'"


rule weights:
    output:
        weights="work/pretrained/{weights}.safetensors",
        record="work/pretrained/{weights}.json",
    log:
        "logs/pretrained/{weights}.log",
    localrule: True
    conda:
        "../../envs/wsss.yaml"
    params:
        code=flow.weights_code,
    shell:
        "python -m wsss weights {wildcards.weights} "
        "2>&1 | tell {log} '{wildcards.weights}'"
