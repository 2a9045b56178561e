"""The interface of a method: its networks, its losses, and the way from its features to a CAM."""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.nets.backbone import Network
from wsss.runs.run import Run
from wsss.settings import MethodNetworkParams, method_spec
from wsss.storage.checkpoint import Layout

# From a side in pixels and a batch size to batches of `image` (B, 3, side, side) and `label`: all
# training images once, resized to squares; between epochs in random order.
Source = Callable[[int, int], Iterator[Batch]]


class Computed(nn.Module):
    """Tensors by name that a method computed instead of training a network."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


class Method(ABC):
    """One published method.

    params: the settings of each network of the chain. classes: number without background.
    hyper_parameter_types: by network, the class that names and types the hyper-parameters which the
    method's code reads; they equal the ones in its YAML file.
    """

    hyper_parameter_types: ClassVar[Mapping[str, type]] = {}

    def __init__(self, params: Mapping[str, MethodNetworkParams], classes: int) -> None:
        self.params, self.classes = params, classes

    @abstractmethod
    def build(self, network: str) -> Network:
        """Return a network of the chain with random weights."""

    def layout(self, network: str) -> Layout:
        """Return the tensor names in the published file of a network.

        Raises:
            ConfigError: there is no published file for this network on its backbone.
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

        nets: the network in training and the networks that it is trained after. batch: image
        (B, 3, h, w), label (B, classes) of 0 and 1, number (B,), the index of each training image.
        """

    def compute(
        self, network: str, nets: Mapping[str, nn.Module], images: Source
    ) -> dict[str, Tensor]:
        """Return the tensors of a network that the chain calls computed, without gradients.

        nets: the networks before it. images: all training images, in their order.
        """
        raise NotImplementedError(f"{network} is called computed, but nothing computes it")

    def after_epoch(  # noqa: B027  # most methods learn nothing between epochs
        self, network: str, nets: Mapping[str, nn.Module], epoch: int, images: Source
    ) -> None:
        """Update what a method learns between epoch `epoch` (from 0) and the next, without gradients.

        The result must be part of the network's state, or else a resumed training differs.
        """

    def give(
        self,
        network: str,
        net: Network,
        text: Mapping[str, Tensor] | None,
        images: Source,
    ) -> None:
        """Complete a network that the chain calls given or prepared, without gradients.

        A prepared network is trained afterwards, a given one is not. net: with its initial weights. text: unit vectors of the dataset's words, `classes` (C, D) and
        `background` (K, D), if the settings of the network ask for them. images: all training images, in
        their order.
        """
        raise NotImplementedError(f"nothing completes {network}")

    @abstractmethod
    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return classification scores (B, classes) of normalised images (B, 3, h, w)."""

    def signed_cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return signed class maps (B, classes, h', w'), before ReLU; defaults to `cam`."""
        return self.cam(net, images)

    def cam_of(self, net: nn.Module, images: Tensor, present: Tensor) -> Tensor:
        """Return class maps of images whose labels are known; defaults to `cam`, which needs none.

        present: 0 or 1 (B, classes). Maps of absent classes are not used.
        """
        return self.cam(net, images)

    def signed_cam_of(self, net: nn.Module, images: Tensor, present: Tensor) -> Tensor:
        """Return signed class maps of images whose labels are known; defaults to `signed_cam`."""
        return self.signed_cam(net, images)

    def decode(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return logits (B, 1 + classes, h', w') of images, if the method has its own decoder."""
        raise ConfigError(f"{type(self).__name__} has no decoder of its own.")

    @abstractmethod
    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return non-negative class maps (B, classes, h', w') of images (B, 3, h, w)."""


def build_method(run: Run, classes: int) -> Method:
    """Return the method of a run with its settings."""
    method = load_method(run.base, run.params.methods_path)
    return method(run.settings.networks, classes)


def load_method(name: str, folders: tuple[str, ...] = ()) -> type[Method]:
    """Import and return the class of a method.

    folders: the user's folders with methods, from `methods_path`.

    Raises:
        ConfigError: the module has no class of a method under the name METHOD.
    """
    module = method_spec.module(name, folders)
    if folders:
        _offer(method_spec.absolute(folders))
    loaded = importlib.import_module(module)
    method = getattr(loaded, "METHOD", None)
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise ConfigError(method_spec.no_class(str(loaded.__file__)))
    return method


def _offer(folders: tuple[Path, ...]) -> None:
    """Make the modules in the user's folders importable below the package `own_methods`."""
    package = method_spec.OWN_PACKAGE
    paths = [str(folder) for folder in folders]
    loaded = sys.modules.get(package)
    if loaded is not None and list(loaded.__path__) == paths:
        return
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = paths
    sys.modules[package] = module_from_spec(spec)
