# CAMs, pseudo labels and predictions of other programs: `imports` in the parameters.


rule import_cam:
    input:
        data=flow.imported("cam", workflow),
    output:
        archive=f"work/{RUN}/cam.zip",
        record=f"work/{RUN}/cam.json",
        files=f"work/{RUN}/cam.files.json",
    log:
        f"logs/{RUN}/cam.log",
    benchmark:
        f"benchmarks/{RUN}/cam.tsv"
    wildcard_constraints:
        method=flow.importing("cam"),
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=growing(workflow, 120),
    params:
        run=flow.name,
        stage="cam",
        settings=flow.settings("cam"),
        code=flow.code("cam"),
    shell:
        "python -m wsss import {params.run} {params.stage} "
        "2>&1 | tell {log} '{params.run} import {params.stage}'"


use rule import_cam as import_pseudo with:
    input:
        data=flow.imported("pseudo", workflow),
    output:
        archive=f"work/{RUN}/pseudo.zip",
        record=f"work/{RUN}/pseudo.json",
        files=f"work/{RUN}/pseudo.files.json",
    log:
        f"logs/{RUN}/pseudo.log",
    benchmark:
        f"benchmarks/{RUN}/pseudo.tsv"
    wildcard_constraints:
        method=flow.importing("pseudo"),
    params:
        run=flow.name,
        stage="pseudo",
        settings=flow.settings("pseudo"),
        code=flow.code("pseudo"),


use rule import_cam as import_masks with:
    input:
        data=flow.imported("masks", workflow),
    output:
        archive=f"work/{RUN}/masks.zip",
        record=f"work/{RUN}/masks.json",
        files=f"work/{RUN}/masks.files.json",
    log:
        f"logs/{RUN}/masks.log",
    benchmark:
        f"benchmarks/{RUN}/masks.tsv"
    wildcard_constraints:
        method=flow.importing("masks"),
    params:
        run=flow.name,
        stage="masks",
        settings=flow.settings("masks"),
        code=flow.code("masks"),
