"""U²-Netp, a network for salient objects (Qin et al., 2020), as an ONNX file that onnxruntime runs.

Images are prepared as in rembg, which offers this file: a square of 320 px, divided by the largest value,
normalised, and the first output scaled to [0, 1]. The authors' u2net_test.py resizes bilinearly, rembg by
Lanczos' kernel. Imports no torch.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.data.images import IMAGENET
from wsss.datasets.fetch import fetch_weights
from wsss.errors import MissingError
from wsss.settings.weight_files import weight_files
from wsss.storage.files import sha256

SIDE_PX = 320
LEAST = 1e-8  # guards the division of a black image or a constant map


class U2Net:
    """The network; several threads may call it at once, each call uses one core."""

    def __init__(self, name: str) -> None:
        """Read the weights `name` of the list of weights, downloaded if they are absent.

        Raises:
            MissingError: onnxruntime is not installed.
            DatasetError: the file can neither be found nor downloaded, or has another hash.
        """
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingError(
                "onnxruntime is not installed, which `wsss saliency` needs. Run `uv sync --extra onnx`; "
                "only the machine that runs this command needs it."
            )
        import onnxruntime  # noqa: PLC0415  # an extra

        row = weight_files()[name]
        file = fetch_weights(row)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self.source = f"{file.name} sha256:{sha256(file)}"
        self.runtime = f"onnxruntime {onnxruntime.__version__}"

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the saliency (H, W) of an RGB image (H, W, 3); 255 is the most salient pixel."""
        scores = self._session.run(None, {self._input: network_input(image)})[0][0, 0]
        return saliency_map(scores, image.shape[:2])


def network_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return an RGB image (H, W, 3) as the input (1, 3, 320, 320) of the network."""
    square = Image.fromarray(image).resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    values = np.asarray(square, np.float64)
    mean, deviation = np.array(IMAGENET)
    values = (values / max(values.max(), LEAST) - mean) / deviation
    return np.asarray(values.transpose(2, 0, 1)[None].astype(np.float32))


def saliency_map(scores: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return scores (320, 320) as 8-bit saliency of an image's size (H, W), from 0 to 255."""
    scaled = (scores - scores.min()) / max(float(np.ptp(scores)), LEAST)
    picture = Image.fromarray(scaled.astype(np.float32))
    resized = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray((np.asarray(resized) * 255).round().clip(0, 255).astype(np.uint8))
