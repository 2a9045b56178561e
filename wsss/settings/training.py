"""The training of one network: random changes of images, optimiser, schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from wsss.settings.base import Fraction, ListOf, Strict


class AugmentParams(Strict):
    """Random changes of a training image: scale, mirror, colour, crop."""

    crop_px: PositiveInt = Field(96, description="side of the square crop, in pixels")
    scale: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.75, 1.25), description="range of the resize factor, drawn uniformly"
    )
    scales: ListOf[PositiveFloat] = Field(
        (), description="instead of scale: factors, one of which is drawn (DeepLab-v2)"
    )
    long_side_px: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="instead of scale: range of the long side, in pixels (PSA, IRNet)"
    )
    area: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None,
        description="instead of scale: range of the share of the image that a random box covers; the box "
        "is cut out and resized to crop_px (DeiT: 0.08 to 1, PCSS: 0.6 to 1.2)",
    )
    square_px: PositiveInt | None = Field(
        None,
        description="instead of scale: resize images to a square of this side, in pixels (CUB: 256)",
    )
    size_rounding: Literal["round", "floor"] = Field(
        "round",
        description="how a scaled side becomes a whole number of pixels (DeepLab-v2, MCTformer: floor)",
    )
    interpolation: Literal["bicubic", "bilinear", "bicubic_plain", "bilinear_plain"] = Field(
        "bicubic",
        description="how images are resized. bicubic, bilinear: Pillow's, 8 bits, antialiased; "
        "bicubic_plain: OpenCV's, 8 bits; bilinear_plain: OpenCV's, not rounded",
    )
    label_cell: Literal["centre", "corner"] = Field(
        "centre",
        description="pixel of the old label map that a pixel of the resized one takes (OpenCV: corner)",
    )
    mirror: bool = Field(True, description="mirror every second image")
    jitter: Fraction = Field(
        0.2,
        description="brightness, contrast and saturation are multiplied by random factors between 1 - "
        "jitter and 1 + jitter",
    )
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="largest random turn of the hue, as a share of the full circle (PSA: 0.1)"
    )
    hsv: Annotated[int, Field(ge=0, le=90)] = Field(
        0,
        description="largest random change of hue (0 to 179), saturation and value, in whole steps "
        "(DeepLab-v1: 10)",
    )
    rand_augment: Annotated[float, Field(ge=0, le=10)] = Field(
        0.0,
        description="magnitude of RandAugment's operations; 0: none. They are applied together with the "
        "colour changes (DeiT: 9)",
    )
    erase: Fraction = Field(
        0.0, description="probability that a box of the crop is filled with noise (DeiT: 0.25)"
    )
    order: tuple[Literal["scale", "mirror", "colour", "crop"], ...] = Field(
        ("scale", "mirror", "colour", "crop"),
        description="order of the changes (DeepLab-v2 mirrors last, DeepLab-v1 changes colours first)",
    )
    place: Literal["random", "top_left"] = Field(
        "random", description="position of an image in its crop if the image is smaller"
    )
    image_fill: Literal["mean", "black"] = Field(
        "mean",
        description="colour of the crop outside of such an image; mean: 0 after normalisation",
    )
    label_fill: Literal[255, 0] = Field(
        255, description="label of the crop outside of such an image (MCTformer: 0, the background)"
    )
    strong_views: tuple[Literal["image", "whole", "local"], ...] = Field(
        (),
        description="additional views with strongly changed colours, for methods that contrast views "
        "(ToCo). image: the crop; whole: a random part of the original image; local: the crop "
        "again",
    )
    mirror_local_view: bool = Field(
        False,
        description="as published, mirror every second local view although its labels are not mirrored",
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
        """Whether a change of the image leaves its pixel labels as they are."""
        return bool(self.rand_augment or self.erase)

    def check_pixel_labels(self) -> None:
        """Raise `ValueError` if pixel labels would no longer fit the changed images."""
        if self.moves_pixels:
            raise ValueError("rand_augment and erase leave pixel labels as they are: set them to 0")


Schedule = Literal["poly", "cosine", "cosine_epochs", "milestones", "constant"]
Optimizer = Literal["sgd", "adamw"]


class PartParams(Strict):
    """A part of a network with its own way of training; a key that is null is as in the rest."""

    names: ListOf[str] = Field(description="patterns of the names of the part's weights")
    optimizer: Optimizer | None = Field(None, description="update rule")
    lr: PositiveFloat | None = Field(None, description="learning rate")
    head: tuple[str, ...] | None = Field(None, description="patterns of the names of new layers")
    head_lr_scale: PositiveFloat | None = Field(None, description="factor on lr for new layers")
    momentum: Fraction | None = Field(None, description="momentum of sgd")
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(None, description="weight decay")
    decay_bias: bool | None = Field(None, description="whether biases decay too")
    undecayed: tuple[str, ...] | None = Field(
        None, description="patterns of the names of weights that do not decay"
    )
    schedule: Schedule | None = Field(None, description="schedule of the learning rate")


class TrainParams(Strict):
    """Training of a network: optimiser, schedule, batches, precision."""

    epochs: PositiveInt = Field(15, description="passes over the training images")
    steps: PositiveInt | None = Field(
        None, description="instead of epochs: number of optimiser steps"
    )
    batch: PositiveInt = Field(16, description="images per optimiser step, over all processes")
    last_batch: Literal["drop", "keep"] = Field(
        "drop",
        description="whether the last images of an epoch are dropped or used if they do not fill a batch",
    )
    accumulate: PositiveInt = Field(
        1,
        description="number of forward and backward passes that a batch is split into, to save memory",
    )
    optimizer: Optimizer = Field("adamw", description="update rule")
    lr: PositiveFloat = Field(4e-3, description="learning rate of the backbone")
    head: ListOf[str] = Field(
        (),
        description="patterns of the names of new layers; empty: all layers outside the backbone",
    )
    head_lr_scale: PositiveFloat = Field(1.0, description="factor on lr for new layers")
    head_bias_lr_scale: PositiveFloat | None = Field(
        None,
        description="factor on lr for biases of new layers; null: head_lr_scale (DeepLab: 20)",
    )
    bias: ListOf[str] = Field(
        ("*bias",),
        description="patterns of the names of weights that count as biases (SemFormer: position tables "
        "too)",
    )
    bias_lr_scale: PositiveFloat = Field(
        1.0, description="factor on lr for biases of the backbone (SemFormer: 2)"
    )
    momentum: Fraction = Field(
        0.9,
        description="momentum of sgd (PSA's optimiser uses its weight decay as momentum, by mistake)",
    )
    nesterov: bool = Field(False, description="whether sgd uses Nesterov momentum")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="weight decay")
    decay_bias: bool = Field(True, description="whether biases decay too (DeepLab: no)")
    frozen: ListOf[str] = Field(
        (),
        description="patterns of the names of weights that are not trained, such as backbone.conv1a.*",
    )
    undecayed: ListOf[str] = Field(
        (), description="patterns of the names of weights that do not decay, such as *pos_embed"
    )
    parts: tuple[PartParams, ...] = Field(
        (), description="parts of the network with an optimiser and settings of their own (CRT)"
    )
    schedule: Schedule = Field(
        "poly",
        description="schedule of the learning rate. poly, cosine: down to 0 over the training; "
        "cosine_epochs: one rate per epoch, from lr_first up to lr in the warm-up, then down "
        "towards lr_last (DeiT, MCTformer, PCSS); milestones: a tenth after each milestone "
        "(CRT); constant",
    )
    milestones: ListOf[PositiveInt] = Field(
        (),
        description="schedule milestones: epochs, counted from 1; the rate falls at every multiple of "
        "each",
    )
    lr_first: PositiveFloat = Field(
        1e-6, description="schedule cosine_epochs: learning rate of the first epoch"
    )
    lr_last: PositiveFloat = Field(
        1e-5, description="schedule cosine_epochs: learning rate after the last epoch"
    )
    lr_delay_epochs: Annotated[int, Field(ge=0)] = Field(
        0,
        description="schedule cosine_epochs: number of epochs by which every rate is delayed (MCTformer: "
        "1)",
    )
    power: PositiveFloat = Field(0.9, description="schedule poly: exponent")
    lr_update_steps: PositiveInt = Field(
        1, description="number of steps between two updates of the learning rate (DeepLab-v2: 10)"
    )
    schedule_extra_steps: Annotated[int, Field(ge=0)] = Field(
        0,
        description="number of steps by which the schedule is longer than the training (DeepLab-v1: 1)",
    )
    warmup: Fraction = Field(
        0.05, description="share of the steps in which the learning rate rises from 0"
    )
    warmup_start: Fraction | None = Field(
        None,
        description="factor on lr at the first step. The fall then counts from the first step, so the "
        "rate drops where the rise ends (ToCo: 0.000001). null: rise from 0, and the fall "
        "begins after the rise",
    )
    clip: Annotated[float, Field(ge=0)] = Field(
        0.0, description="largest norm of the gradient; 0: no limit"
    )
    freeze_norm: bool | tuple[str, ...] = Field(
        False,
        description="keep the statistics of BatchNorm layers, as PSA and IRNet do: true for all layers, "
        "or patterns of their names, such as backbone.*",
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto",
        description="arithmetic; auto: bf16 on a GPU that supports it, else fp32. On a GPU, fp32 computes "
        "convolutions in TF32 and matrix products in 32 bits, as PyTorch does since 1.12; tf32 "
        "computes both in TF32, as it did before",
    )
    compile: bool = Field(
        False, description="compile the backbone with torch.compile when its training starts"
    )
    deterministic: bool = Field(
        False,
        description="whether two trainings on one GPU end with equal bytes, one of them killed and resumed "
        "too; slower. On processors they always do",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        0, description="number of processes that load images; 0: the training process loads them"
    )
    save_seconds: PositiveInt = Field(
        60, description="seconds between two saved states from which a stopped training resumes"
    )
    tensorboard: bool = Field(False, description="also write curves to logs/tensorboard")

    @model_validator(mode="after")
    def _divisible(self) -> TrainParams:
        if self.batch % self.accumulate:
            raise ValueError(
                f"batch ({self.batch}) is not a multiple of accumulate ({self.accumulate})"
            )
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError("nesterov needs optimizer sgd and momentum above 0")
        return self
