"""One training: random changes of images, optimiser, schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from wsss.settings.base import Fraction, Strict


class AugmentParams(Strict):
    """Random changes of a training image: scale, mirror, colour, crop."""

    crop_px: PositiveInt = Field(96, description="side of the square crop")
    scale: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.75, 1.25), description="range of the uniform resize factor"
    )
    scales: tuple[PositiveFloat, ...] = Field(
        (), description="instead of scale: factors of which one is drawn, as DeepLab-v2 does"
    )
    long_side_px: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="instead of scale: range of the long side, as PSA and IRNet do"
    )
    area: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None,
        description="instead of scale: range of the share of the image in a box that is cut out and "
        "resized to crop_px (DeiT 0.08 to 1, PCSS 0.6 to 1.2)",
    )
    square_px: PositiveInt | None = Field(
        None, description="instead of scale: side of the square that images become (CUB 256)"
    )
    size_rounding: Literal["round", "floor"] = Field(
        "round", description="how a scaled side becomes whole (DeepLab-v2, MCTformer: floor)"
    )
    interpolation: Literal["bicubic", "bilinear", "bicubic_plain", "bilinear_plain"] = Field(
        "bicubic",
        description="bicubic, bilinear: on 8 bits, smoothed where it shrinks (Pillow); bicubic_plain, "
        "bilinear_plain: OpenCV's, the first on 8 bits, the second not rounded",
    )
    label_cell: Literal["centre", "corner"] = Field(
        "centre", description="pixel of the old labels that a new one takes (OpenCV: corner)"
    )
    mirror: bool = Field(True, description="mirror every second image")
    jitter: Fraction = Field(
        0.2, description="range of brightness, contrast and saturation factors"
    )
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="range of the turn of the hue, of a full circle (PSA 0.1)"
    )
    hsv: Annotated[int, Field(ge=0, le=90)] = Field(
        0, description="range of whole steps of hue (of 180), saturation, value (DeepLab-v1: 10)"
    )
    rand_augment: Annotated[float, Field(ge=0, le=10)] = Field(
        0.0, description="magnitude of RandAugment's operations, applied with colours (DeiT 9)"
    )
    erase: Fraction = Field(
        0.0, description="probability that a box of the crop becomes noise (DeiT 0.25)"
    )
    order: tuple[Literal["scale", "mirror", "colour", "crop"], ...] = Field(
        ("scale", "mirror", "colour", "crop"),
        description="what comes first (DeepLab-v2 mirrors last, DeepLab-v1 colours first)",
    )
    place: Literal["random", "top_left"] = Field(
        "random", description="where an image smaller than the crop stands in it"
    )
    image_fill: Literal["mean", "black"] = Field(
        "mean", description="colour around such an image; mean is 0 after normalisation"
    )
    label_fill: Literal[255, 0] = Field(
        255, description="label around such an image (MCTformer: 0, the background)"
    )
    strong_views: tuple[Literal["image", "whole", "local"], ...] = Field(
        (),
        description="looks with strongly changed colours, for methods that contrast views (ToCo). "
        "image: the crop itself; whole: also a random part of the original; local: also the crop",
    )
    mirror_local_view: bool = Field(
        False, description="mirror every second local look, as published, though labels stay"
    )

    @model_validator(mode="after")
    def _possible(self) -> AugmentParams:
        if sorted(self.order) != ["colour", "crop", "mirror", "scale"]:
            raise ValueError("order must name scale, mirror, colour and crop once each")
        if max(map(self.order.index, ("scale", "colour"))) > self.order.index("crop"):
            raise ValueError("order must have scale and colour before crop")
        late = self.order.index("colour") > self.order.index("scale")
        if (
            late
            and self.interpolation == "bilinear_plain"
            and (self.jitter or self.hue or self.hsv or self.rand_augment)
        ):
            raise ValueError(
                "colours change on 8 bits: with interpolation bilinear_plain let order have "
                "colour before scale, or set jitter, hue and hsv to 0"
            )
        if sum(map(bool, (self.scales, self.long_side_px, self.area, self.square_px))) > 1:
            raise ValueError("scales, long_side_px, area and square_px exclude each other")
        return self

    @property
    def moves_pixels(self) -> bool:
        """Whether images are changed in a way that labels of pixels are not."""
        return bool(self.rand_augment or self.erase)


Schedule = Literal["poly", "cosine", "cosine_epochs", "milestones", "constant"]
Optimizer = Literal["sgd", "adamw"]


class PartParams(Strict):
    """A part of a network that is trained in another way than the rest; null is as the rest."""

    names: tuple[str, ...] = Field(description="patterns of the names of its weights")
    optimizer: Optimizer | None = Field(None, description="update rule")
    lr: PositiveFloat | None = Field(None, description="learning rate")
    head: tuple[str, ...] | None = Field(None, description="patterns of the names of new layers")
    head_lr_scale: PositiveFloat | None = Field(None, description="learning rate of these over lr")
    momentum: Fraction | None = Field(None, description="momentum of sgd")
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(None, description="decay of weights")
    decay_bias: bool | None = Field(None, description="biases decay as well")
    undecayed: tuple[str, ...] | None = Field(
        None, description="patterns of the names of weights that do not decay"
    )
    schedule: Schedule | None = Field(None, description="fall of the rate")


class TrainParams(Strict):
    """One training: optimiser, schedule, batches, precision."""

    epochs: PositiveInt = Field(15, description="passes over the training images")
    steps: PositiveInt | None = Field(None, description="instead of epochs: optimiser steps")
    batch: PositiveInt = Field(16, description="images per optimiser step, over all processes")
    last_batch: Literal["drop", "keep"] = Field(
        "drop", description="what becomes of an epoch's last images, if they fill no batch"
    )
    accumulate: PositiveInt = Field(1, description="parts a batch is worked off in, to save memory")
    optimizer: Optimizer = Field("adamw", description="update rule")
    lr: PositiveFloat = Field(4e-3, description="learning rate of the backbone")
    head: tuple[str, ...] = Field(
        (), description="patterns of the names of new layers; without: all outside the backbone"
    )
    head_lr_scale: PositiveFloat = Field(1.0, description="learning rate of new layers over lr")
    head_bias_lr_scale: PositiveFloat | None = Field(
        None,
        description="learning rate of their biases over lr; null is head_lr_scale (DeepLab: 20)",
    )
    bias: tuple[str, ...] = Field(
        ("*bias",), description="patterns of the names that count as biases (SemFormer: tables too)"
    )
    bias_lr_scale: PositiveFloat = Field(
        1.0, description="learning rate of the backbone's biases over lr (SemFormer 2)"
    )
    momentum: Fraction = Field(
        0.9, description="momentum of sgd (that of PSA's optimiser is its weight decay, by mistake)"
    )
    nesterov: bool = Field(False, description="Nesterov's momentum")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="decay of weights")
    decay_bias: bool = Field(True, description="biases decay as well (DeepLab: not)")
    frozen: tuple[str, ...] = Field(
        (), description="patterns of the names of weights that stay, such as backbone.conv1a.*"
    )
    undecayed: tuple[str, ...] = Field(
        (), description="patterns of the names of weights that do not decay, such as *pos_embed"
    )
    parts: tuple[PartParams, ...] = Field(
        (), description="parts of the network with settings, and an optimiser, of their own (CRT)"
    )
    schedule: Schedule = Field(
        "poly",
        description="fall of the rate; cosine_epochs: one rate for each epoch, from lr_first up to lr "
        "and down towards lr_last (DeiT, MCTformer, PCSS); milestones: a tenth at each (CRT)",
    )
    milestones: tuple[PositiveInt, ...] = Field(
        (), description="milestones: epochs, from 1, at each multiple of which the rate falls"
    )
    lr_first: PositiveFloat = Field(1e-6, description="cosine_epochs: rate of the first epoch")
    lr_last: PositiveFloat = Field(1e-5, description="cosine_epochs: rate after the last epoch")
    lr_delay_epochs: Annotated[int, Field(ge=0)] = Field(
        0, description="cosine_epochs: epochs by which every rate is late (MCTformer 1)"
    )
    power: PositiveFloat = Field(0.9, description="exponent of the poly schedule")
    lr_update_steps: PositiveInt = Field(
        1, description="steps for which a rate stays (DeepLab-v2: 10)"
    )
    schedule_extra_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="steps by which the schedule outlasts the training (DeepLab-v1: 1)"
    )
    warmup: Fraction = Field(0.05, description="share of the steps in which the rate rises from 0")
    warmup_start: Fraction | None = Field(
        None,
        description="factor that it rises from, and the fall counts from the first step, so that the "
        "rate drops where the rise ends (ToCo 0.000001); null: the fall begins after the rise",
    )
    clip: Annotated[float, Field(ge=0)] = Field(0.0, description="largest gradient norm; 0 is none")
    freeze_norm: bool | tuple[str, ...] = Field(
        False,
        description="keep the statistics of BatchNorm layers, as PSA and IRNet do: of all, or of "
        "those whose names match patterns, such as backbone.*",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="arithmetic; auto is bf16 on a GPU that has it, else fp32"
    )
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes that load images")
    save_seconds: PositiveInt = Field(60, description="time between two resume states")
    tensorboard: bool = Field(
        False, description="also write curves to logs/tensorboard while training"
    )

    @model_validator(mode="after")
    def _divisible(self) -> TrainParams:
        if self.batch % self.accumulate:
            raise ValueError(
                f"batch ({self.batch}) is not a multiple of accumulate ({self.accumulate})"
            )
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError("nesterov needs optimizer sgd and momentum above 0")
        return self


# Backbones of our own with a stride that cannot be chosen: the stride, and the network whose initial
# weights they take. (IRNet began with torchvision's first ImageNet weights, timm's tv_in1k; ToCo and
# CPDGL with the ViT of the first release, not timm's present default.)
