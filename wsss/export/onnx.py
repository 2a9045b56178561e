"""The segmenter as one ONNX file, which needs neither this package nor torch."""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsss.data.labelmap import colour
from wsss.data.normalisation import Normalisation
from wsss.errors import ConfigError, MissingError
from wsss.inference.trained import normalisation, restore
from wsss.machine.runtime import Runtime
from wsss.nets.deeplab import build_deeplab, resize
from wsss.progress import log
from wsss.runs.run import Run
from wsss.storage import checkpoint
from wsss.storage.files import write_bytes

OPSET = 18  # the oldest opset that torch's exporter writes without conversion
EXAMPLE = (2, 3, 96, 128)  # shape for tracing a graph with free batch, height and width
INPUT = "RGB, 0 to 255, as decoded: no other preparation"
OUTPUT = "float32, as high and wide as the image: logits; softmax or argmax over the second axis"


class Served(nn.Module):
    """The segmenter with its normalisation: from 8-bit RGB values to logits of the same size."""

    def __init__(self, net: nn.Module, normalise: Normalisation, align_corners: bool) -> None:
        super().__init__()
        self._net, self._bgr, self._aligned = net, normalise.bgr, align_corners
        shape = (1, 3, 1, 1)
        self.register_buffer("_scale", torch.tensor(normalise.std).view(shape) * normalise.unit)
        self.register_buffer("_mean", torch.tensor(normalise.mean).view(shape) * normalise.unit)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, classes, H, W) of RGB images (B, 3, H, W) in [0, 255]."""
        ordered = image.flip(1) if self._bgr else image
        normalised = (ordered - self.get_buffer("_mean")) / self.get_buffer("_scale")
        return resize(self._net(normalised), image.shape[2:], self._aligned)


def onnx(run: Run, target: Path | None = None) -> Path:
    """Write the segmenter of a run at scale 1, without mirrored view and CRF, and return the path.

    Images may have any size, unless torch cannot export the network so (DeepLab-v2 with several
    scales inside); then they have the size of the training crops. The file's metadata describe
    input, output, classes and their colours.

    Raises:
        MissingError: onnx is not installed.
    """
    try:
        library: Any = importlib.import_module("onnx")
        importlib.import_module("onnxscript")
    except ImportError:
        raise MissingError("onnx is not installed. Run `uv sync --extra onnx`.") from None
    weights, settings = run.path("segmenter.safetensors"), run.settings.segmenter
    classes: list[str] = checkpoint.load(weights)[1]["classes"]
    net = restore(
        lambda: build_deeplab(run.settings.segmenter, len(classes)), weights, Runtime.start()
    )
    served = Served(net.cpu(), normalisation(net), settings.align_corners).eval()
    path = target or run.results / f"{run.dataset}-{run.method}-{run.protocol}-s{run.seed}.onnx"
    side = settings.augment.crop_px
    model, shape = _traced(served), "(batch, 3, height, width)"
    if model is None:
        model, shape = _traced(served, (1, 3, side, side)), f"(1, 3, {side}, {side})"
        log.warning("%s takes images of %d x %d px alone: resize them.", path, side, side)
    if model is None:
        raise ConfigError(f"torch cannot write the segmenter of {run} as ONNX. Choose another one.")
    for key, value in _metadata(run, classes, shape).items():
        model.metadata_props.add(key=key, value=value)
    library.checker.check_model(model)
    write_bytes(path, model.SerializeToString())
    return path


def _traced(served: nn.Module, fixed: tuple[int, ...] | None = None) -> Any | None:
    """Return the model for one shape, or with free batch, height and width; None if torch fails."""
    free = None if fixed else {"image": {0: "batch", 2: "height", 3: "width"}}
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter warns about itself
            program: Any = torch.onnx.export(
                served,
                (torch.zeros(fixed or EXAMPLE),),
                input_names=["image"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamic_shapes=free,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError:
        return None
    finally:
        logging.disable(logging.NOTSET)
    return program.model_proto


def _metadata(run: Run, classes: list[str], shape: str) -> dict[str, str]:
    names = ["background", *classes]
    return {
        "run": str(run),
        "input": f"float32 {shape}, {INPUT}",
        "output": OUTPUT,
        "classes": json.dumps(names, ensure_ascii=False),
        "colours": json.dumps([colour(label) for label in range(len(names))]),
    }
