"""What ToCo, SeCo and CPDGL have in common: a network that learns masks from its own CAMs.

Every step, the CAMs of several scales (without gradient) become labels: of pixels, for the decoder;
of pairs of patches, for the features; and of places to crop, for the contrast of tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.resize import in_boxes
from wsss.data.workers import Batch
from wsss.inference.cam_maps import stretch
from wsss.inference.multiscale import multiscale
from wsss.inference.views import TestTimeAugmentation, ViewMerging, ViewResizing
from wsss.machine.runtime import Runtime
from wsss.methods.base import Method
from wsss.methods.single_stage import dense_energy, online_labels
from wsss.methods.single_stage.contrast import pair_loss
from wsss.methods.single_stage.crops import CropRule
from wsss.methods.single_stage.network import Seen, SingleStageNet, steady
from wsss.methods.single_stage.online_labels import Thresholds
from wsss.nets.deeplab import resize
from wsss.storage.checkpoint import Layout

# How the CAMs that become labels are computed, at each of the settings' scales.
AUGMENTATION = TestTimeAugmentation(
    mirror=True,
    resizing=ViewResizing("bilinear", floor=True),
    merging=ViewMerging(mirror_maximum=True, relu=True),
)


@dataclass(frozen=True)
class Views:
    """A batch as the losses need it.

    image: (B, 3, H, W). label: (B, C) of 0 and 1. box: (B, 4), the part that is image. whole: another
    look at the whole image; local: what the other crops are cut from.
    """

    image: Tensor
    label: Tensor
    box: Tensor
    whole: Tensor
    local: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Views:
        """Return the views of a batch; without `augment.strong` all are the image itself."""
        image: Tensor = batch["image"]
        height, width = image.shape[2:]
        everywhere = torch.tensor([[0, 0, height, width]], device=image.device)
        return cls(
            image,
            batch["label"],
            batch.get("content", everywhere.expand(len(image), -1)),
            batch.get("whole", image),
            batch.get("local", image),
        )


@dataclass(frozen=True)
class Guide:
    """The CAMs (B, C, H, W) of a batch, from 0 to 1: of the final and of the middle patches."""

    final: Tensor
    middle: Tensor


@dataclass(frozen=True)
class Moment:
    """A step (from 0), the settings, and the weight of each term of the loss at this step."""

    step: int
    settings: Mapping[str, Any]
    weights: Mapping[str, float]

    def has_begun(self, what: str) -> bool:
        """Return whether the step is not before the setting `<what>_from`."""
        return bool(self.step >= self.settings[f"{what}_from"])

    @property
    def thresholds(self) -> Thresholds:
        """The scores that make an object or background."""
        return Thresholds(self.settings["high"], self.settings["low"])

    @property
    def crops(self) -> CropRule:
        """How crops are cut and tagged."""
        rules = {
            "side": "crop_px",
            "count": "crops",
            "share": "crop_share",
            "reseed": "crop_reseed",
        }
        rules |= {"class_weights": "crop_class_weights", "absent": "crop_absent_tag"}
        found = self.settings  # those of ToCo know no classes of crops
        return CropRule(**{name: found[key] for name, key in rules.items() if key in found})


class SingleStage(Method):
    """The part that all share; `contrast` is what each does with tokens.

    contrasts: the names of its terms.
    """

    contrasts: ClassVar[tuple[str, ...]]
    network: ClassVar[type[SingleStageNet]]
    published: ClassVar[Layout]

    def build(self, network: str) -> SingleStageNet:
        """Return the network."""
        params = self.params[network]
        return self.network(params.backbone, self.classes, params.settings)

    def layout(self, network: str) -> Layout:
        """Return the layout of the published files."""
        return self.published

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the scores of the final patches."""
        own = cast("SingleStageNet", net)
        return own.scores(own.see(images))[0]

    def evidence(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the signed class maps of the final patches."""
        own = cast("SingleStageNet", net)
        return own.cams(own.see(images))[0]

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the class maps of the final patches, 0 where they are negative."""
        return F.relu(self.evidence(net, images))

    def decode(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the decoder's logits (B, 1 + classes, h, w)."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    @abstractmethod
    def contrast(
        self, net: SingleStageNet, seen: Seen, views: Views, guide: Guide, now: Moment
    ) -> dict[str, Tensor]:
        """Return the contrastive terms that have a weight; move what moves in every step."""

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the weighed terms that count at this step; teachers and memories move on."""
        net = cast("SingleStageNet", nets[network])
        settings = self.params[network].settings
        now = Moment(step, settings, self.weights(settings, step))
        views = Views.of(batch)
        with torch.autocast(views.image.device.type, enabled=False):
            guide = self.guide(net, views.image, settings["scales"])
            seen = net.see(views.image)
            final, middle = net.scores(seen)
            terms = {
                "labels": F.multilabel_soft_margin_loss(final, views.label),
                "middle": F.multilabel_soft_margin_loss(middle, views.label),
            }
            if now.weights["pairs"]:
                terms["pairs"] = pair_loss(seen.features, self.pairs(guide, seen, views, now))
            terms |= self.contrast(net, seen, views, guide, now)
            if now.weights["decoder"] or now.weights["dense_energy"]:
                terms |= self.decoding(net, seen, views, guide, now)
            return {name: term * now.weights.get(name, 1.0) for name, term in terms.items()}

    def weights(self, settings: Mapping[str, Any], step: int) -> dict[str, float]:
        """Return the weight of each term of the loss but the labels' at a step (from 0)."""
        length, late = settings["ramp_steps"], step >= settings["decoder_from"]
        ramp = min(1.0, step / length) if late and length else 1.0
        begun = {"pairs": step >= settings["pairs_from"], "decoder": late, "dense_energy": late}
        begun |= dict.fromkeys(self.contrasts, step >= settings["contrast_from"])
        found = {name: settings[f"{name}_weight"] * there for name, there in begun.items()}
        return {name: w if name == "pairs" else w * ramp for name, w in found.items()}

    def guide(self, net: SingleStageNet, images: Tensor, scales: list[float]) -> Guide:
        """Return the CAMs of normalised images (B, 3, H, W) over all scales, mirrored too."""
        height, width = images.shape[2:]
        sizes = [AUGMENTATION.resizing.size((height, width), scale) for scale in scales]
        scaled = [resize(images, size) for size in sizes]
        runtime = Runtime(images.device, torch.float32)
        with torch.no_grad(), steady(net):
            both = lambda pictures: torch.cat(net.cams(net.see(pictures)), 1)  # noqa: E731
            (maps,) = multiscale(both, scaled, AUGMENTATION, (height, width), runtime)
            return Guide(*stretch(maps).chunk(2, 1))

    def pairs(self, guide: Guide, seen: Seen, views: Views, now: Moment) -> Tensor:
        """Return which pairs of patches (B, n, n) are alike by the middle's CAM."""
        grid = (seen.features.shape[2], seen.features.shape[3])
        valid = online_labels.valid_cam(resize(guide.middle, grid), views.label)
        cell = views.image.shape[2] // grid[0]
        boxes = (
            views.box if now.settings["box_in_pixels"] else online_labels.cells_of(views.box, cell)
        )
        return online_labels.pairs(
            online_labels.boxed(online_labels.three_way(valid, now.thresholds), boxes)
        )

    def refined(self, net: SingleStageNet, views: Views, guide: Guide, now: Moment) -> Tensor:
        """Return the labels (B, H, W) that the decoder learns from."""
        cams = guide.final if now.has_begun("last_layer_labels") else guide.middle
        mean, std = _colours(net)
        pictures = online_labels.unit_images(
            views.image, mean, std, now.settings["truncate_colours"]
        )
        valid = online_labels.valid_cam(cams, views.label)
        shrink = now.settings["refine_px"]
        return online_labels.refined(
            pictures, valid, views.label, views.box, now.thresholds, shrink
        )

    def decoding(
        self, net: SingleStageNet, seen: Seen, views: Views, guide: Guide, now: Moment
    ) -> dict[str, Tensor]:
        """Return the decoder's terms."""
        truth = self.refined(net, views, guide, now)
        size = (truth.shape[1], truth.shape[2])
        logits = resize(net.decoder(seen.features), size)
        terms = {"decoder": dense_energy.balanced(logits, truth)}
        if now.weights["dense_energy"]:
            mean, std = _colours(net)
            images = views.image * std[:, None, None] + mean[:, None, None]
            inside = in_boxes(views.box, size)
            terms["dense_energy"] = dense_energy.dense_energy(images, logits, truth, inside)
        return terms


def _colours(net: SingleStageNet) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (3,) of the normalisation, of values in [0, 255]."""
    like = net.classifier.weight
    return like.new_tensor(net.backbone.mean) * 255, like.new_tensor(net.backbone.std) * 255
