"""CAMs in the format of the authors' code: pickled dictionaries in `.npy` files.

They are only written, never read: loading a pickle runs the code inside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.errors import ConfigError
from wsss.progress import progress
from wsss.runs.run import Run
from wsss.storage.cam_archive import Cam, CamReader
from wsss.storage.files import replacing

STYLES = ("psa", "irn")


def cams(run: Run, style: str = "psa", target: Path | None = None) -> Path:
    """Write `<image>.npy` for every image with CAMs, and return the folder.

    style: `psa` (PSA, SEAM, MCTformer) is {class: map (H, W)}; `irn` (IRNet, CRT) is {"keys": classes
    (K,), "cam": a tensor (K, h, w), "high_res": maps (K, H, W)}. Classes are numbered from 0 without
    the background; maps are float32 in [0, 1].
    """
    if style not in STYLES:
        raise ConfigError(f"{style!r} is not one of {', '.join(STYLES)}.")
    reader = CamReader(run.path("cam.zip"))
    path = (
        target
        or run.results / f"cams-{style}-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}"
    )
    for name in progress(reader, "export"):
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
