# Tables, figures and panels, made from the records.

RESULTS = flow.params.results


rule results:
    input:
        flow.results_inputs,
    output:
        [f"{RESULTS}/{name}" for name in TABLES],
        localization_tables(flow.runs),
        report(
            f"{RESULTS}/table.html",
            caption="../report/table.rst",
            category="Results",
            labels={"figure": "table"},
        ),
        report(
            f"{RESULTS}/context.csv",
            caption="../report/context.rst",
            category="Phenomena",
            labels={"figure": "scores on contexts"},
        ),
        [
            report(
                f"{RESULTS}/figures/{name}.svg",
                caption=f"../report/{name}.rst",
                category=category,
                labels={"figure": name},
            )
            for name, category in FIGURES.items()
        ],
        [f"{RESULTS}/figures/{name}.pdf" for name in FIGURES],
        [
            report(
                path,
                caption="../report/panels.rst",
                category="Images",
                subcategory=labels["method"],
                labels=labels,
            )
            for path, labels in panels(flow.runs)
        ],
    log:
        "logs/results.log",
    benchmark:
        "benchmarks/results.tsv"
    conda:
        "../../envs/wsss.yaml"
    resources:
        mem_mb=lambda w, attempt: 8000 * attempt,
        runtime=growing(workflow, 60),
    params:
        panels=flow.params.report.panels,
        runs=[str(run) for run in flow.runs],
        code=flow.results_code,
    shell:
        "python -m wsss table > {log} 2>&1 || {{ cat {log}; exit 1; }}"
