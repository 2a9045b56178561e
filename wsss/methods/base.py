"""What a method is: its networks, its losses, its way from features to a CAM."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.nets.backbone import Network
from wsss.runs.run import Run
from wsss.settings import ClassifierParams, method_spec
from wsss.storage.checkpoint import Layout

# From a side in pixels and a number of images to batches of `image` (B, 3, side, side) and `label`:
# the training images once, squashed to squares; between epochs in random order.
Source = Callable[[int, int], Iterator[Batch]]


class Computed(nn.Module):
    """What a chain has derived instead of trained: tensors by name."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


class Method(ABC):
    """One published method.

    params: the settings of each network of the chain. classes: without background.
    """

    def __init__(self, params: Mapping[str, ClassifierParams], classes: int) -> None:
        self.params, self.classes = params, classes

    @abstractmethod
    def build(self, network: str) -> Network:
        """Return a network of the chain with random weights."""

    def layout(self, network: str) -> Layout:
        """Return how the published file of a network names its tensors.

        Raises:
            ConfigError: there is no such file for this network on its backbone.
        """
        raise ConfigError(
            f"No published weights are known for {network} on {self.params[network].backbone}: "
            "set its checkpoint to null."
        )

    @abstractmethod
    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the terms of the objective of `network`; the trainer sums and logs them.

        nets: the network in training and those that come before it. batch: image (B, 3, h, w),
        label (B, classes) of 0 and 1, number (B,), the place of each image among those of training.
        """

    def derive(
        self, network: str, nets: Mapping[str, nn.Module], images: Source
    ) -> dict[str, Tensor]:
        """Return the tensors of a network that the chain calls derived, without gradients.

        nets: those that come before it. images: all images of training, in their order.
        """
        raise NotImplementedError(f"{network} is called derived, but nothing derives it")

    def after_epoch(  # noqa: B027  # most methods learn nothing between epochs
        self, network: str, nets: Mapping[str, nn.Module], epoch: int, images: Source
    ) -> None:
        """Do what a method does between epoch `epoch` (from 0) and the next, without gradients.

        What it learns belongs into the state of the network, or else a resumed training differs.
        """

    @abstractmethod
    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return classification scores (B, classes) of normalised images (B, 3, h, w)."""

    def evidence(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return class maps of which negative scores are not yet cut, if the method has such."""
        return self.cam(net, images)

    def decode(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return logits (B, 1 + classes, h, w) of images, if the method has a decoder of its own."""
        raise ConfigError(f"{type(self).__name__} has no decoder of its own.")

    @abstractmethod
    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return non-negative class maps (B, classes, h', w') of images (B, 3, h, w)."""


def build_method(run: Run, classes: int) -> Method:
    """Return the method of a run with its settings."""
    return load_method(run.method)(run.settings.networks, classes)


def load_method(name: str) -> type[Method]:
    """Import and return the class of a method."""
    module = importlib.import_module(f"wsss.methods.{method_spec.module(name)}")
    method: type[Method] = module.METHOD
    return method
