"""On one GPU, train.deterministic gives equal bytes: in two runs, and when a training was cut and resumed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from wsss.data.images import load_entry_mask
from wsss.data.index import Index
from wsss.data.normalisation import Normalisation
from wsss.data.workers import Batch
from wsss.machine.runtime import Runtime, deterministic
from wsss.nets.build import build_backbone
from wsss.nets.deeplab import DeepLab, pixel_loss
from wsss.settings import AugmentParams, TrainParams
from wsss.training.batches import TrainingImages, batches
from wsss.training.loop import Objective, Trainer, Training, fit

NORMALISE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PARAMS = TrainParams(steps=6, batch=4, lr=1e-3)
CUT = 3  # steps before the training is cut


class Segmentation(Objective):
    """DeepLab-v2, with resized logits and a sum over pixels: what GPUs sum in any order."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = DeepLab(build_backbone(backbone, 16), "deeplab_v2", 4, (1, 2))

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the loss of the pixels."""
        return {"pixels": pixel_loss(self.net(batch["image"]), batch["mask"])}


def training(index: Index, folder: Path, backbone: str) -> Training:
    augment = AugmentParams(crop_px=32)
    images = TrainingImages(index, index.training(), augment, NORMALISE, 0, load_entry_mask)
    return Training(
        Segmentation(backbone), images, PARAMS, 0, folder / "net.safetensors", {"seed": 0}
    )


@pytest.mark.parametrize(
    ("device", "precision", "backbone"),
    [("cpu", "fp32", "toy"), ("cuda", "fp32", "resnet18"), ("cuda", "bf16", "resnet18")],
)
def test_a_cut_and_resumed_training_ends_with_the_bytes_of_an_uninterrupted_one(
    squares: Index, tmp_path: Path, device: str, precision: str, backbone: str
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    runtime = Runtime(torch.device(device), dtype)
    ends = []
    with deterministic(True):
        for name in ("whole", "again", "cut"):
            item = training(squares, tmp_path / name, backbone)
            if name == "cut":
                begun = Trainer(item, runtime)
                loaded = batches(item.images, begun.schedule, 0, 0)
                begun.objective.train()
                for step in range(CUT):
                    begun.step(step, loaded)
                begun.note_losses()
                begun.save(CUT)
                item = training(squares, tmp_path / name, backbone)
            fit(item, runtime)
            ends.append(item.weights.read_bytes())
    whole, again, cut = ends
    assert whole == again
    assert whole == cut
