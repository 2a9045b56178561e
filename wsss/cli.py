"""The `wsss` command: one subcommand for each rule of the workflow, and tools around them.

Each subcommand imports its stage itself, because `import torch` takes seconds.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from wsss.errors import ConfigError, DatasetError, StaleError, WsssError, one_line
from wsss.machine import gpu_locks
from wsss.machine.gpus import explained
from wsss.machine.launch import start
from wsss.progress import fail, log, setup
from wsss.runs.checkout import params_file
from wsss.runs.run import Run
from wsss.settings import Params, render
from wsss.settings.resolve import load_params, read_layers

app = typer.Typer(
    help="Weakly supervised semantic segmentation, from image labels to masks.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"max_content_width": 140},  # of a wide terminal; 80 would cut the sentences
)
data_app = typer.Typer(help="Fetch, check and prepare datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
export_app = typer.Typer(help="Write predictions in other forms.", no_args_is_help=True)
app.add_typer(export_app, name="export")

PARAMS_VARIABLE = "WSSS_PARAMS"

ParamFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--params",
        help="Parameter file, laid over the files named before it; may be repeated. "
        f"Default: ${PARAMS_VARIABLE}, else params.yaml here or in the checkout.",
    ),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Run: dataset/method/protocol/sSEED.")]
Shard = Annotated[
    str | None,
    typer.Option(
        help="Process part k of n equal parts, for `wsss gather`: k-of-n. Default: all, at once."
    ),
]
Gpus = Annotated[
    int,
    typer.Option(
        min=0, help="Number of GPUs that share the training, or of processes where there is no GPU."
    ),
]
Nodes = Annotated[int, typer.Option(min=1, help="Number of machines of the Slurm job.")]
What = Annotated[
    str,
    typer.Option(
        help="Labels to write: seed or pseudo, of the training images; masks or decode, of the others."
    ),
]
Out = Annotated[Path | None, typer.Option(help="File or folder to write; default: below results/.")]
OnlyNames = Annotated[list[str] | None, typer.Option(help="Show only these; may be repeated.")]
Processes = Annotated[int, typer.Option(min=0, help="Number of worker processes.")]


def _param_files(files: list[Path] | None) -> list[Path]:
    named = os.environ.get(PARAMS_VARIABLE) or params_file()
    return files or [Path(name) for name in named.split(os.pathsep)]


def _params(files: list[Path] | None) -> Params:
    return load_params(_param_files(files))


def _present_params(files: list[Path] | None) -> Params:
    """Return the parameters; the defaults where there is no parameter file."""
    if not files and PARAMS_VARIABLE not in os.environ and not Path(params_file()).is_file():
        return Params()
    return _params(files)


def _run(name: str, files: list[Path] | None, stage: str = "") -> Run:
    """Return the run of a name. stage: what is to be computed; one that a variant shares is its base's."""
    run = Run.parse(name, _params(files))
    owner = run.owner(stage)
    if owner != run:
        log.info("%s has the %s of %s: it is computed there", run, stage, owner)
    return owner


def _recorded(name: str, files: list[Path] | None, *needed: str) -> Run:
    """Return a finished run with the settings of its records.

    needed: stages whose settings the command uses. Parameter files stand in for missing records only
    if they are named.
    """
    from wsss.runs.recorded import recorded_run

    return recorded_run(_run(name, files), needed, bool(files) or PARAMS_VARIABLE in os.environ)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, count = text.partition("-of-")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard {text!r} is not k-of-n with 1 <= k <= n, such as 1-of-4.")
    return int(number), int(count)


@data_app.command("fetch")
def data_fetch(
    dataset: str,
    folder: Annotated[Path, typer.Option(help="Folder of all datasets.")] = Path("data"),
) -> None:
    """Download, verify and unpack a public dataset; print what has to be requested by hand."""
    from wsss.datasets.fetch import fetch

    for line in fetch(dataset, folder):
        typer.echo(line)


@data_app.command("prepare")
def data_prepare(dataset: str, params: ParamFiles = None) -> None:
    """Draw or read a dataset and write its index."""
    from wsss.stages.prepare import prepare

    prepare(_params(params), dataset)


@data_app.command("check")
def data_check(
    datasets: Annotated[list[str] | None, typer.Argument()] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail for remarks too, not only for errors.")
    ] = False,
    params: ParamFiles = None,
) -> None:
    """Print every error and remark on the datasets, and what they hold; fail if there are errors."""
    from wsss.data.problems import counted
    from wsss.stages.check import check

    loaded = _params(params)
    counts = Counter[str]()
    for dataset in datasets or loaded.datasets:
        counts += check(loaded, dataset, typer.echo)
    shown = ", ".join(counted(count, kind, f"{kind}s") for kind, count in sorted(counts.items()))
    if counts["error"] or (strict and counts):
        raise DatasetError(f"{shown} found; see above.")
    typer.echo(f"No errors found, {shown}." if counts else "No problems found.")


@app.command()
def weights(name: str) -> None:
    """Fetch initial weights, such as resnet50.imagenet."""
    from wsss.stages.weights import weights as stage

    stage(name)


@app.command()
def text(
    dataset: str,
    digest: Annotated[
        str | None, typer.Argument(help="Digits in the name of one file; default: all files.")
    ] = None,
    params: ParamFiles = None,
) -> None:
    """Turn the words for the classes of a dataset into vectors of CLIP's text tower."""
    from wsss.stages.text import text as stage

    stage(_params(params), dataset, digest)


@app.command()
def saliency(
    dataset: str,
    threads: Annotated[int, typer.Option(min=1, help="Number of images at a time.")] = 1,
    params: ParamFiles = None,
) -> None:
    """Make the saliency maps of a dataset's training images with the network that its settings name."""
    from wsss.stages.saliency import saliency as stage

    stage(_params(params), dataset, threads)


@app.command()
def train(
    run: RunName,
    network: Annotated[
        str, typer.Argument(help="Network of the method's chain, as `wsss methods` lists it.")
    ],
    gpus: Gpus = 1,
    nodes: Nodes = 1,
    params: ParamFiles = None,
) -> None:
    """Train a network of a method's chain on image-level labels, or take its published weights."""
    start(gpus, nodes)
    from wsss.stages.train import train as stage

    stage(_run(run, params, network), network)


@app.command()
def cam(
    run: RunName,
    network: Annotated[
        str | None, typer.Argument(help="Network of the chain; default: the CAM network.")
    ] = None,
    shard: Shard = None,
    processes: Processes = 0,
    params: ParamFiles = None,
) -> None:
    """Write the CAMs of the training images."""
    from wsss.stages.cam import cam as stage

    stage(_run(run, params, "cam"), _shard(shard), processes, network)


@app.command("import")
def import_files(
    run: RunName,
    stage: Annotated[
        str | None, typer.Argument(help="cam, pseudo or masks; default: all that are imported.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read and check the files, and write nothing.")
    ] = False,
    params: ParamFiles = None,
) -> None:
    """Take the CAMs, pseudo labels or predictions of another program that `imports` names."""
    from wsss.stages.imports import import_files as stage_import

    for line in stage_import(_run(run, params, stage or ""), stage, check):
        typer.echo(one_line(line))


@app.command()
def decode(
    run: RunName, shard: Shard = None, processes: Processes = 0, params: ParamFiles = None
) -> None:
    """Predict the masks of the validation images with the method's own decoder."""
    from wsss.stages.decode import decode as stage

    stage(_run(run, params, "decode"), _shard(shard), processes)


@app.command()
def gather(
    run: RunName,
    stage: Annotated[str, typer.Argument(help="cam, decode, walk, instances or masks.")],
    params: ParamFiles = None,
) -> None:
    """Join the shards of a stage."""
    from wsss.stages.gather import gather as stage_gather

    stage_gather(_run(run, params, stage), stage)


@app.command()
def boxes(run: RunName, params: ParamFiles = None) -> None:
    """Write the boxes of the validation images, for a method that localizes."""
    from wsss.stages.boxes import boxes as stage

    stage(_run(run, params, "boxes"))


@app.command()
def calibrate(
    run: RunName,
    maps: Annotated[str, typer.Argument(help="cam, cam-NETWORK or walk.")],
    params: ParamFiles = None,
) -> None:
    """Choose the thresholds for maps by the masks of a few images."""
    from wsss.stages.calibrate import calibrate as stage

    stage(_run(run, params, f"calibrate-{maps}"), maps)


@app.command()
def confident(run: RunName, processes: Processes = 1, params: ParamFiles = None) -> None:
    """Write affinity labels: the pixels of the CAMs that are sure after a CRF."""
    from wsss.stages.confident import confident as stage

    stage(_run(run, params, "confident"), processes)


@app.command()
def affinity(run: RunName, gpus: Gpus = 1, nodes: Nodes = 1, params: ParamFiles = None) -> None:
    """Train AffinityNet or IRN on the affinity labels, or take its published weights."""
    start(gpus, nodes)
    from wsss.stages.affinity import affinity as stage

    stage(_run(run, params, "affinity"))


@app.command()
def walk(run: RunName, shard: Shard = None, params: ParamFiles = None) -> None:
    """Spread the CAMs along affinities by a random walk."""
    from wsss.stages.walk import walk as stage

    stage(_run(run, params, "walk"), _shard(shard))


@app.command()
def instances(run: RunName, shard: Shard = None, params: ParamFiles = None) -> None:
    """Write instance labels from IRN's displacements."""
    from wsss.stages.instances import instances as stage

    stage(_run(run, params, "instances"), _shard(shard))


@app.command()
def pseudo(run: RunName, processes: Processes = 1, params: ParamFiles = None) -> None:
    """Write the pseudo labels of the training images."""
    from wsss.stages.pseudo import pseudo as stage

    stage(_run(run, params, "pseudo"), processes)


@app.command()
def segmenter(run: RunName, gpus: Gpus = 1, nodes: Nodes = 1, params: ParamFiles = None) -> None:
    """Train the segmenter on pseudo labels, or take its published weights."""
    start(gpus, nodes)
    from wsss.stages.segmenter import segmenter as stage

    stage(_run(run, params, "segmenter"))


@app.command()
def masks(
    run: RunName, shard: Shard = None, processes: Processes = 0, params: ParamFiles = None
) -> None:
    """Predict the masks of the validation images with the segmenter."""
    from wsss.stages.masks import masks as stage

    stage(_run(run, params, "masks"), _shard(shard), processes)


@app.command()
def evaluate(
    run: RunName,
    what: Annotated[
        str,
        typer.Argument(help="seed, seed-NETWORK, decode, walk, pseudo, segmentation or boxes."),
    ],
    params: ParamFiles = None,
) -> None:
    """Score the labels, masks or boxes of a stage."""
    from wsss.stages.evaluate import evaluate as stage

    stage(_run(run, params), what)


@app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN... | data DATASET... | weights NAME... | text DATASET... | saliency DATASET...]",
            help="What to verify; default: everything that the parameters select.",
        ),
    ] = None,
    params: ParamFiles = None,
) -> None:
    """Compare settings, code, inputs and the SHA-256 of every file with the records."""
    from wsss.runs.verification import named_mismatches

    _all_match(named_mismatches(_params(params), names or []))
    typer.echo(f"{' '.join(names or ['Everything'])}: all files are the recorded ones.")


def _all_match(mismatches: Iterable[str]) -> None:
    """Print a line for each mismatch; `StaleError` if there is one."""
    count = 0
    for count, line in enumerate(mismatches, 1):  # noqa: B007
        typer.echo(one_line(line))
    if count:
        raise StaleError(
            f"{count} {'mismatch' if count == 1 else 'mismatches'}. Run `snakemake`, which remakes "
            "what differs, or `dvc checkout` and `dvc pull` for the files of this commit."
        )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def adopt(context: typer.Context, params: ParamFiles = None) -> None:
    """Verify everything, write results/, then let Snakemake take all for its own: after `dvc pull`.

    Further options are given to Snakemake.
    """
    from wsss.runs.adopt import keep_commits, touch
    from wsss.runs.run import planned_runs
    from wsss.runs.verification import plan_mismatches
    from wsss.stages.table import write_results

    loaded = _params(params)
    _all_match(plan_mismatches(loaded))
    keep_commits(planned_runs(loaded), Path(loaded.results, "provenance.json"))
    write_results(loaded)  # tables have no record; equal input gives equal bytes
    touch(_param_files(params), context.args)
    typer.echo("All files are the recorded ones, and Snakemake has nothing to make again.")


@app.command()
def accept(
    run: RunName,
    stage: Annotated[
        str | None,
        typer.Argument(help="Stage, data or weights; default: all of the run that is finished."),
    ] = None,
    because: Annotated[
        str, typer.Option(help="Why the new code gives the same results; stands in the tables.")
    ] = "",
    params: ParamFiles = None,
) -> None:
    """Take results of earlier code for current, because the change of code alters no result."""
    from wsss.runs.acceptance import accept as accept_code

    lines = accept_code(_run(run, params), because, stage)
    typer.echo("\n".join(map(one_line, lines)) or f"{run}: no code differs, nothing to accept.")
    if lines:
        typer.echo(
            "Accepted; `snakemake` remakes the tables alone, which mark it. If it was called with "
            "--touch since the code changed, call `wsss adopt` first."
        )


@app.command("dvc")
def write_dvc(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if dvc.yaml is not the same.")
    ] = False,
    params: ParamFiles = None,
) -> None:
    """Write dvc.yaml: what DVC records of every dataset and run that the parameters select."""
    from wsss.runs import dvc_file

    if check:
        dvc_file.check_dvc_file(_param_files(params))
    else:
        dvc_file.write_dvc_file(_param_files(params))


@app.command()
def table(
    method: OnlyNames = None,
    dataset: OnlyNames = None,
    protocol: OnlyNames = None,
    stage: OnlyNames = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Read evaluation files, folders of them, or a table.csv."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write tables and figures of the selection to.")
    ] = None,
    params: ParamFiles = None,
) -> None:
    """Verify all records, write results/ and print the table; with a selection, only print it."""
    from wsss.report.tables.selection import Selection
    from wsss.report.tables.terminal import for_terminal
    from wsss.stages.table import chosen, gathered, write_results

    selection = Selection(*(tuple(names or ()) for names in (method, dataset, protocol, stage)))
    if sources:
        text = gathered(sources, selection, output)
    elif selection or output:
        text = chosen(_params(params), selection, output)
    else:
        text = write_results(_params(params))
    typer.echo(for_terminal(text))


@app.command()
def times(
    method: OnlyNames = None,
    dataset: OnlyNames = None,
    protocol: OnlyNames = None,
    params: ParamFiles = None,
) -> None:
    """Print how long the jobs of each method took, by stage, with processor time and memory."""
    from wsss.report.tables.selection import Selection, runs
    from wsss.report.tables.terminal import for_terminal
    from wsss.report.tables.times import times as table_of_times

    selection = Selection(*(tuple(names or ()) for names in (method, dataset, protocol)))
    typer.echo(for_terminal(table_of_times(runs(_params(params), selection))), nl=False)


@app.command()
def show(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs on one dataset.")],
    images: Annotated[
        str, typer.Option(help="Number of training images and of validation images; or all.")
    ] = "24",
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; default: results/gallery.")
    ] = None,
    params: ParamFiles = None,
) -> None:
    """Write a gallery: images with the output of each stage of the runs; open index.html."""
    from wsss.report.gallery.gallery import gallery, image_count

    shown = [_recorded(name, params) for name in runs]
    folder = output or Path(_params(params).results) / "gallery"
    count = gallery(shown, image_count(images), folder)
    typer.echo(f"{count} images -> {folder / 'index.html'}")


@app.command()
def panels(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs on one dataset.")],
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="What to show of each run: cam, seed or pseudo of training images, decode or "
            "segmentation of validation images; may be repeated. Default: segmentation."
        ),
    ] = None,
    images: Annotated[int, typer.Option(help="Number of images, evenly spread.", min=1)] = 6,
    image: Annotated[
        list[str] | None, typer.Option(help="Name of an image to show; may be repeated.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Picture to write: .png, .jpg or .webp. Default: results/panels.png."),
    ] = None,
    params: ParamFiles = None,
) -> None:
    """Draw runs side by side: a row for each image, a column for each run and stage, and the truth."""
    from wsss.report.gallery.side_by_side import side_by_side

    shown = [_recorded(name, params) for name in runs]
    path = output or Path(_params(params).results) / "panels.png"
    count = side_by_side(shown, stage or ["segmentation"], image or images, path)
    typer.echo(f"{count} images -> {path}")


@app.command()
def predict(
    run: RunName,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlays and CAMs.")] = Path(
        "predictions"
    ),
    network: Annotated[
        str | None,
        typer.Option(
            "--with",
            help="What masks come from: segmenter, or decoder of the method; cams: CAMs alone. "
            "Default: what is trained, in this order.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Classes that are known to be in the images, for their CAMs: cat,dog or a CSV table "
            "with the columns image and labels."
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Look into subfolders too.")
    ] = False,
    params: ParamFiles = None,
) -> None:
    """Segment your own images with the networks and settings of a run."""
    from wsss.export.photographs import photographs
    from wsss.export.predict import kind_of, stages_used
    from wsss.export.predict import predict as stage

    chosen = photographs(images, recursive, out)
    planned = _run(run, params)
    kind = kind_of(planned, network)
    count = stage(_recorded(run, params, *stages_used(planned, kind)), chosen, out, kind, labels)
    folders = ("cams",) if kind == "cams" else ("masks", "overlays", "cams")
    outputs = ", ".join(f"{out}/{name}" for name in (*folders, "classes.csv"))
    typer.echo(one_line(f"{count} images -> {outputs}"))


@export_app.command("voc-test")
def export_voc_test(
    run: RunName,
    what: Annotated[
        str, typer.Option(help="Predictor: masks (segmenter) or decode (own decoder).")
    ] = "masks",
    out: Annotated[
        Path | None, typer.Option(help="Archive to write; default: results/voc-test-….tar.")
    ] = None,
    params: ParamFiles = None,
) -> None:
    """Pack the masks of VOC's test images for its evaluation server."""
    from wsss.export.voc_test import voc_test

    typer.echo(voc_test(_run(run, params), out, what))


@export_app.command("voc-tree")
def export_voc_tree(
    run: RunName, what: What = "pseudo", out: Out = None, params: ParamFiles = None
) -> None:
    """Write a folder in the layout of VOC: JPEGImages, SegmentationClass, ImageSets."""
    from wsss.export.labels import voc_tree

    typer.echo(voc_tree(_run(run, params), what, out))


@export_app.command("png")
def export_png(
    run: RunName, what: What = "pseudo", out: Out = None, params: ParamFiles = None
) -> None:
    """Write a folder of indexed PNGs, one for each image."""
    from wsss.export.labels import pngs

    typer.echo(pngs(_run(run, params), what, out))


@export_app.command("coco")
def export_coco(
    run: RunName, what: What = "pseudo", out: Out = None, params: ParamFiles = None
) -> None:
    """Write one JSON file in the format of COCO, with run-length masks."""
    from wsss.export.labels import coco

    typer.echo(coco(_run(run, params), what, out))


@export_app.command("cams")
def export_cams(
    run: RunName,
    style: Annotated[
        str,
        typer.Option(help="Format: psa (also SEAM, MCTformer), irn (also CRT), or npz, our own."),
    ] = "psa",
    what: Annotated[str, typer.Option(help="Maps: cam, cam-NETWORK or walk.")] = "cam",
    out: Out = None,
    params: ParamFiles = None,
) -> None:
    """Write CAMs or walked maps as the .npy dictionaries that published code reads."""
    from wsss.export.cams import cams

    typer.echo(cams(_run(run, params), style, out, what))


@export_app.command("scores")
def export_scores(
    run: RunName,
    what: Annotated[
        str, typer.Option(help="Evaluation: seed, decode, walk, pseudo or segmentation.")
    ] = "segmentation",
    out: Out = None,
    params: ParamFiles = None,
) -> None:
    """Write the IoU of every scored image, with a column for each class, as a CSV."""
    from wsss.export.scores import scores

    typer.echo(scores(_run(run, params), what, out))


@export_app.command("onnx")
def export_onnx(run: RunName, out: Out = None, params: ParamFiles = None) -> None:
    """Write the segmenter as ONNX, from an image to logits."""
    from wsss.export.onnx import onnx

    typer.echo(onnx(_recorded(run, params, "segmenter"), out))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def resume(
    context: typer.Context,
    cancel: Annotated[
        bool,
        typer.Option(
            "--cancel", help="Cancel the jobs of the dead head instead of waiting for them."
        ),
    ] = False,
    dead: Annotated[
        bool,
        typer.Option(
            "--dead", help="Confirm that the head, which ran on another machine, is dead."
        ),
    ] = False,
) -> None:
    """Go on after the head process of Snakemake died: wait for its jobs, unlock, call it as before.

    Further options are added to that call.
    """
    from wsss.runs import resume as module

    arguments = [*module.prepare(cancel, dead), *context.args]
    command = module.command(arguments)
    os.execv(command[0], command)  # noqa: S606  # this process becomes the head


@app.command("params")
def show_params(
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every key with its type, default and meaning.")
    ] = False,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="For developers: overwrite params.yaml, its JSON schema and docs/weights.md with what the "
            "code says.",
        ),
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema.")] = False,
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Print the settings of one run, all layers merged."),
    ] = None,
    why: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="With --run: print the layers that set a key, such as walk.beta."
        ),
    ] = None,
    params: ParamFiles = None,
) -> None:
    """Print the settings, or explain them."""
    if explain:
        typer.echo(render.explain(_present_params(params).methods_path))
    elif schema:
        typer.echo(render.schema_text(), nl=False)
    elif write:
        from wsss.datasets import downloads_page
        from wsss.runs import weights_page

        render.write_defaults(Path())
        weights_page.write(Path())
        downloads_page.write(Path())
    elif run:
        typer.echo(_settings(_run(run, params), _param_files(params), why))
    elif why:
        raise ConfigError(f"--why {why} needs a run: add --run dataset/method/protocol/sSEED.")
    else:
        typer.echo(_params(params).model_dump_json(indent=1))


def _settings(run: Run, files: list[Path], key: str | None) -> str:
    """Return the settings of a run, or the layers that set one key; warn of those without effect."""
    from wsss.settings import history

    layers = read_layers(files)
    combination = (run.dataset, run.method, run.protocol)
    if key:
        return history.history(layers, run.params, combination, key)
    replaced = list(history.replaced(layers, run.params, [combination]))
    if replaced:
        log.warning(history.sentence(replaced, run.seed))
    return run.settings.model_dump_json(indent=1)


@app.command("methods")
def show_methods(params: ParamFiles = None) -> None:
    """List the methods, their papers and their chains; also those in methods_path, and variants."""
    from wsss.settings import method_spec

    loaded = _present_params(params)
    folders = loaded.methods_path
    for name in method_spec.methods(folders):
        spec = method_spec.spec(name, folders)
        chain = " -> ".join(spec.networks) or "no chain: the segmenter learns from true masks"
        typer.echo(f"{name}: {spec.title}. {spec.paper or spec.supervision} [{chain}]")
    for name, files in loaded.imports.items():
        typer.echo(
            f"{name}: {files.title or name}. Files of another program [{', '.join(files.keys)}]"
        )
    for name, variant in loaded.all_variants.items():
        only = f", {variant.protocol} only" if variant.protocol else ""
        typer.echo(f"{name}: variant of {variant.method}{only} {render.yaml_value(variant.set)}")


@app.command()
def doctor(params: ParamFiles = None) -> None:
    """Print what is installed, what is missing, and what to do about it; also what --params needs."""
    from wsss.machine.doctor import report
    from wsss.runs.missing import Plan, advice, downloads, missing_files

    lines, healthy = report()
    typer.echo("\n".join(lines))
    if params:
        plan = Plan.of(_params(params))
        files = missing_files(plan)
        typer.echo(advice(plan, files))
        typer.echo(downloads(plan))
        healthy = healthy and not files
    raise typer.Exit(0 if healthy else 1)


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an error.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print warnings and errors alone.")
    ] = False,
) -> None:
    """Weakly supervised semantic segmentation, from image labels to masks."""
    setup(logging.WARNING if quiet else logging.INFO, with_traceback=debug)


def main() -> None:
    """Run the command; an error that a user can mend is one line on standard error, exit code 2."""
    setup()
    os.environ.setdefault(gpu_locks.FOLDER_VARIABLE, gpu_locks.FOLDER)
    try:
        app()
    except WsssError as error:
        fail(str(error))
    except RuntimeError as error:
        line = explained(error)
        if line is None:
            raise
        fail(line)
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        reason = error.strerror or str(error) or type(error).__name__
        fail(f"{where}{reason}. Check the path, its permissions and free space.")
