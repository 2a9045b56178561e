"""CAMs and walked maps in the formats of the authors' code, and in our own; `wsss import` reads them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.errors import ConfigError
from wsss.progress import progress
from wsss.runs.run import Run, stage_kind
from wsss.storage.cam_archive import Cam, CamReader, pack
from wsss.storage.files import replacing, write_bytes

STYLES = ("psa", "irn", "npz")


def cams(run: Run, style: str = "psa", target: Path | None = None, what: str = "cam") -> Path:
    """Write `<image>.npy` or `<image>.npz` for every image with maps, and return the folder.

    style: `psa` (PSA, SEAM, MCTformer) is {class: map (H, W)}; `irn` (IRNet, CRT) is {"keys": classes
    (K,), "cam": a tensor (K, h, w), "high_res": maps (K, H, W)}. Classes are numbered from 0 without
    the background; maps are float32 in [0, 1]. `npz` has the arrays of our archive as they are.
    what: `cam`, `cam-NETWORK` or `walk`.
    """
    if style not in STYLES:
        raise ConfigError(f"{style!r} is not one of {', '.join(STYLES)}.")
    stages = [stage for stage in run.stages() if stage_kind(stage) in ("cam", "walk")]
    if what not in stages:
        raise ConfigError(f"{what!r} is not one of {', '.join(stages) or 'its maps: it has none'}.")
    reader = CamReader(run.path(f"{what}.zip"))
    stem = "cams" if what == "cam" else what
    path = (
        target
        or run.results / f"{stem}-{style}-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}"
    )
    for name in progress(reader, "export"):
        if style == "npz":
            write_bytes(path / f"{name}.npz", pack(reader[name]))
            continue
        content = (_psa if style == "psa" else _irn)(reader[name])
        with replacing(path / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, np.array(content, dtype=object), allow_pickle=True)
    return path


def _psa(cam: Cam) -> dict[int, NDArray[np.float32]]:
    return dict(zip(cam.labels.tolist(), cam.full(), strict=True))


def _irn(cam: Cam) -> dict[str, object]:
    import torch  # noqa: PLC0415  # IRNet calls .cuda() on the value of "cam"

    small = torch.from_numpy(cam.cam.astype(np.float32))
    return {"keys": cam.labels.astype(np.int64), "cam": small, "high_res": cam.full()}
