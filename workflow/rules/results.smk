# Tables, figures and panels from the records; and targets for a part of the way.


rule results:
    input:
        flow.results_inputs(),
    output:
        expand("results/{name}", name=TABLES),
        flow.localization(),
        report(
            "results/table.html",
            caption="../report/table.rst",
            category="Results",
            labels={"figure": "table"},
        ),
        report(
            "results/context.csv",
            caption="../report/context.rst",
            category="Phenomena",
            labels={"figure": "scores on contexts"},
        ),
        [
            report(
                f"results/figures/{name}.svg",
                caption=f"../report/{name}.rst",
                category=category,
                labels={"figure": name},
            )
            for name, category in FIGURES.items()
        ],
        [
            report(
                path,
                caption="../report/panels.rst",
                category="Images",
                subcategory=labels["method"],
                labels=labels,
            )
            for path, labels in flow.panels()
        ],
    log:
        "logs/results.log",
    benchmark:
        "benchmarks/results.tsv"
    localrule: True
    conda:
        "../../envs/wsss.yaml"
    params:
        panels=flow.params.report.panels,
        runs=[str(run) for run in flow.runs],
        code=flow.results_code(),
    shell:
        "python -m wsss table > {log} 2>&1 || {{ cat {log}; exit 1; }}"


rule table:
    input:
        rules.results.output,
        flow.basis(workflow),
    localrule: True


rule cams:
    input:
        flow.each("cam.zip"),
    localrule: True


rule pseudo:
    input:
        flow.each("pseudo.zip"),
    localrule: True
