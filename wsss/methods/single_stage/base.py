"""The common part of ToCo, SeCo and CPDGL: a network that learns masks from its own CAMs.

In every step, CAMs over several scales (without gradient) become labels of pixels for the decoder,
labels of patch pairs for the features, and positions of crops for the contrast of tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar, cast

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
from wsss.methods.single_stage.network import Encoded, SingleStageNet, steady
from wsss.methods.single_stage.online_labels import Thresholds
from wsss.nets.deeplab import resize
from wsss.storage.checkpoint import Layout

# How the CAMs that become labels are computed, at each of the settings' scales.
AUGMENTATION = TestTimeAugmentation(
    mirror=True,
    resizing=ViewResizing("bilinear", floor=True),
    merging=ViewMerging(mirror_maximum=True, relu=True),
)


class SingleStageHyperParameters(Protocol):
    """The hyper-parameters that the methods share; toco.yaml and cpdgl.yaml explain them."""

    aux_layer: int
    rates: tuple[int, ...]
    hidden: int
    scales: tuple[float, ...]
    high: float
    low: float
    refine_px: int
    pairs_from: int
    contrast_from: int
    decoder_from: int
    ramp_steps: int
    last_layer_labels_from: int
    pairs_weight: float
    decoder_weight: float
    dense_energy_weight: float
    crop_px: int
    crops: int
    crop_share: float
    crop_reseed: bool
    box_in_pixels: bool
    truncate_colours: bool


Parameters = TypeVar("Parameters", bound=SingleStageHyperParameters)


@dataclass(frozen=True)
class Views:
    """A batch with all views that the losses use.

    image: (B, 3, H, W). label: (B, C) of 0 and 1. box: (B, 4), the part of the crop that is image.
    whole: a second view of the whole crop (B, 3, H, W). local: the view that small crops are cut from.
    """

    image: Tensor
    label: Tensor
    box: Tensor
    whole: Tensor
    local: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Views:
        """Return the views of a batch; without `augment.strong_views` all are the image itself."""
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
    """The CAMs of a batch in [0, 1] (B, C, H, W), from the last and from the auxiliary layer."""

    last: Tensor
    auxiliary: Tensor


@dataclass(frozen=True)
class Schedule(Generic[Parameters]):
    """A training step (from 0), the hyper-parameters, and the weight of each loss at this step."""

    step: int
    hyper_parameters: Parameters
    weights: Mapping[str, float]

    @property
    def thresholds(self) -> Thresholds:
        """The scores above which a pixel is an object, and up to which it is background."""
        return Thresholds(self.hyper_parameters.high, self.hyper_parameters.low)

    def choose(self, guide: Guide, last_layer_from: int) -> Tensor:
        """Return the last layer's CAM from a step on, the auxiliary CAM before."""
        return guide.last if self.step >= last_layer_from else guide.auxiliary


def crop_rule(parameters: SingleStageHyperParameters) -> CropRule:
    """Return the rule by which crops are cut and tagged."""
    return CropRule(
        parameters.crop_px, parameters.crops, parameters.crop_share, parameters.crop_reseed
    )


class SingleStage(Method, Generic[Parameters]):
    """Label, pair and decoder losses; subclasses add the contrast of tokens."""

    published: ClassVar[Layout]

    @property
    def hyper_parameters(self) -> Parameters:
        """The hyper-parameters of the network."""
        return cast("Parameters", self.params["classifier"].hyper_parameters)

    @abstractmethod
    def build(self, network: str) -> SingleStageNet:
        """Return the network."""

    def layout(self, network: str) -> Layout:
        """Return the layout of the published files."""
        return self.published

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the scores (B, classes) of the last layer's patches."""
        classifier = cast("SingleStageNet", net)
        return classifier.scores(classifier.encode(images))[0]

    def signed_cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the signed class maps (B, classes, h, w) of the last layer's patches."""
        classifier = cast("SingleStageNet", net)
        return classifier.cams(classifier.encode(images))[0]

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the positive part of the signed CAM."""
        return F.relu(self.signed_cam(net, images))

    def decode(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the decoder's logits (B, 1 + classes, h, w)."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    @abstractmethod
    def contrast(
        self,
        net: SingleStageNet,
        encoded: Encoded,
        views: Views,
        guide: Guide,
        schedule: Schedule[Parameters],
    ) -> dict[str, Tensor]:
        """Return the contrastive terms with a weight; update teachers and memories in every step."""

    @abstractmethod
    def contrast_weights(self, parameters: Parameters) -> dict[str, float]:
        """Return the full weight of each contrastive term."""

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the weighted terms of this step; teachers and memories are updated."""
        net = cast("SingleStageNet", nets[network])
        parameters = self.hyper_parameters
        schedule = Schedule(step, parameters, self.weights(parameters, step))
        views = Views.of(batch)
        with torch.autocast(views.image.device.type, enabled=False):
            guide = self.guide(net, views.image, parameters.scales)
            encoded = net.encode(views.image)
            scores, auxiliary_scores = net.scores(encoded)
            terms = {
                "labels": F.multilabel_soft_margin_loss(scores, views.label),
                "auxiliary": F.multilabel_soft_margin_loss(auxiliary_scores, views.label),
            }
            if schedule.weights["pairs"]:
                pairs = self.pairs(guide, encoded, views, schedule)
                terms["pairs"] = pair_loss(encoded.features, pairs)
            terms |= self.contrast(net, encoded, views, guide, schedule)
            if schedule.weights["decoder"] or schedule.weights["dense_energy"]:
                terms |= self.decoder_losses(net, encoded, views, guide, schedule)
            return {name: term * schedule.weights.get(name, 1.0) for name, term in terms.items()}

    def weights(self, parameters: Parameters, step: int) -> dict[str, float]:
        """Return the weight of each loss except the label losses at a step (from 0)."""
        length, decoding = parameters.ramp_steps, step >= parameters.decoder_from
        ramp = min(1.0, step / length) if decoding and length else 1.0
        contrasting = step >= parameters.contrast_from
        ramped = {
            "decoder": parameters.decoder_weight * decoding,
            "dense_energy": parameters.dense_energy_weight * decoding,
        }
        for name, weight in self.contrast_weights(parameters).items():
            ramped[name] = weight * contrasting
        pairs = parameters.pairs_weight * (step >= parameters.pairs_from)
        return {"pairs": pairs, **{name: weight * ramp for name, weight in ramped.items()}}

    def guide(self, net: SingleStageNet, images: Tensor, scales: Sequence[float]) -> Guide:
        """Return the CAMs of normalised images (B, 3, H, W), merged over scales and mirrored views."""
        height, width = images.shape[2:]
        sizes = [AUGMENTATION.resizing.size((height, width), scale) for scale in scales]
        views = [resize(images, size) for size in sizes]
        runtime = Runtime(images.device, torch.float32)
        with torch.no_grad(), steady(net):
            cams = lambda pictures: torch.cat(net.cams(net.encode(pictures)), 1)  # noqa: E731
            (maps,) = multiscale(cams, views, AUGMENTATION, (height, width), runtime)
            return Guide(*stretch(maps).chunk(2, 1))

    def pairs(
        self, guide: Guide, encoded: Encoded, views: Views, schedule: Schedule[Parameters]
    ) -> Tensor:
        """Return the labels of patch pairs (B, n, n) by the auxiliary CAM: 1, 0, or 255 if unknown."""
        grid = (encoded.features.shape[2], encoded.features.shape[3])
        valid = online_labels.valid_cam(resize(guide.auxiliary, grid), views.label)
        cell = views.image.shape[2] // grid[0]
        in_pixels = schedule.hyper_parameters.box_in_pixels
        boxes = views.box if in_pixels else online_labels.cells_of(views.box, cell)
        labels = online_labels.three_way(valid, schedule.thresholds)
        return online_labels.pairs(online_labels.boxed(labels, boxes))

    def refined(
        self, net: SingleStageNet, views: Views, guide: Guide, schedule: Schedule[Parameters]
    ) -> Tensor:
        """Return the labels (B, H, W) that the decoder learns from; 255 is unknown."""
        parameters = schedule.hyper_parameters
        cams = schedule.choose(guide, parameters.last_layer_labels_from)
        mean, std = _colours(net)
        pictures = online_labels.unit_images(views.image, mean, std, parameters.truncate_colours)
        valid = online_labels.valid_cam(cams, views.label)
        return online_labels.refined(
            pictures, valid, views.label, views.box, schedule.thresholds, parameters.refine_px
        )

    def decoder_losses(
        self,
        net: SingleStageNet,
        encoded: Encoded,
        views: Views,
        guide: Guide,
        schedule: Schedule[Parameters],
    ) -> dict[str, Tensor]:
        """Return the decoder's cross-entropy and, if it has a weight, its dense energy loss."""
        labels = self.refined(net, views, guide, schedule)
        size = (labels.shape[1], labels.shape[2])
        logits = resize(net.decoder(encoded.features), size)
        terms = {"decoder": dense_energy.balanced(logits, labels)}
        if schedule.weights["dense_energy"]:
            mean, std = _colours(net)
            images = views.image * std[:, None, None] + mean[:, None, None]
            inside = in_boxes(views.box, size)
            terms["dense_energy"] = dense_energy.dense_energy(images, logits, labels, inside)
        return terms


def _colours(net: SingleStageNet) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (3,) of the normalisation, for values in [0, 255]."""
    like = net.classifier.weight
    return like.new_tensor(net.backbone.mean) * 255, like.new_tensor(net.backbone.std) * 255
