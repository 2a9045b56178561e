"""Class maps as the authors' code reads them: pickled dictionaries in `.npy` files.

Only written, never read: whoever loads such a file runs what is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wsss.errors import ConfigError
from wsss.progress import progress
from wsss.runs.run import RESULTS, Run
from wsss.storage.cam_archive import Cam, CamReader
from wsss.storage.files import replacing

STYLES = ("psa", "irn")


def cams(run: Run, style: str = "psa", target: Path | None = None) -> Path:
    """Write `<image>.npy` for every image with CAMs, and return the folder.

    psa, as PSA, SEAM and MCTformer read it: {class: map (H, W)}. irn, as IRNet and CRT read it:
    {"keys": classes (K,), "cam": a tensor (K, h, w), "high_res": maps (K, H, W)}. Classes count
    from 0, without the background; maps are float32 in [0, 1].
    """
    if style not in STYLES:
        raise ConfigError(f"{style!r} is not one of {', '.join(STYLES)}.")
    reader = CamReader(run.path("cam.zip"))
    path = target or RESULTS / f"cams-{style}-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}"
    for name in progress(reader, "export"):
        content = (_psa if style == "psa" else _irn)(reader[name])
        with replacing(path / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, np.array(content, dtype=object), allow_pickle=True)
    return path


def _psa(cam: Cam) -> dict[int, Any]:
    return dict(zip(cam.labels.tolist(), cam.full(), strict=True))


def _irn(cam: Cam) -> dict[str, Any]:
    import torch  # noqa: PLC0415  # IRNet calls .cuda() on what it finds under "cam"

    small = torch.from_numpy(cam.cam.astype(np.float32))
    return {"keys": cam.labels.astype(np.int64), "cam": small, "high_res": cam.full()}
