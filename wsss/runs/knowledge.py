"""What weights were trained on, for the table's column *extra knowledge*.

The list in wsss/settings/weight_files.yaml says so for every file. Imports neither torch nor timm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from wsss.settings.weight_files import WeightFile, weight_file

NONE = "none"
UNKNOWN = "unknown"
TRUE_MASKS = "true masks"
SALIENCY = "saliency maps"
SALIENCY_NETWORK = "saliency trained on masks"
REGIONS = "masks of regions"
SENTENCES = "text on the classes"


@dataclass(frozen=True)
class Knowledge:
    """What weights were trained on.

    data: all of it in words. extra: the part of it beyond ImageNet-1k.
    """

    data: str
    extra: tuple[str, ...] = ()


RANDOM = Knowledge("random")
IMAGENET = Knowledge("ImageNet-1k")
NOT_KNOWN = Knowledge(UNKNOWN, (UNKNOWN,))
SOME_IMAGENET = Knowledge("ImageNet of an unknown kind", (UNKNOWN,))

# What a tag of timm's says about the data, as patterns of its parts: in21k_ft_in1k is ImageNet-21k first.
TAGS = (
    (r"in(w?21|22)k", "ImageNet-21k"),
    (r"in12k", "ImageNet-12k"),
    (r"jft", "JFT labels"),
    (r"ig1b|swag|seer|yfcc\w*", "web images and their tags"),
    (r"openai", "CLIP (captions of 400 million images)"),
    (r"laion\w*|\w*clip\d*|webli|datacomp\w*|dfn\w*|pali|florence\d*", "captions"),
    (r"sa1b", "SAM masks"),
    (r"dino", "DINO (images without labels)"),
    (r"lvd142m", "DINOv2 (images without labels)"),
    (r"lvd(?!142m)\w*", "DINOv3 (images without labels)"),
)
# Words that mark more than image labels: masks, boxes and texts that people drew or wrote.
MORE_THAN_LABELS = re.compile(
    r"\b(masks?|boxes|scribbles|points|saliency|captions?|clip|sam|dino|text|language|diffusion|unknown)\b",
    re.IGNORECASE,
)


def of_file(path: str, words: str | None) -> Knowledge:
    """Return what a file of weights was trained on; words: the user's own for the extra.

    What is known of a file cannot be unsaid: words that are left over from another file hide nothing.
    """
    listed = weight_file(path)
    if listed:
        return _of_listed(listed)
    return NOT_KNOWN if words is None else stated(words)


def stated(words: str) -> Knowledge:
    """Return what a user says that weights or imported files have learned from beyond ImageNet-1k."""
    extra = () if words.strip().lower() == NONE else (words.strip(),)
    return Knowledge(", ".join(extra) or "nothing beyond ImageNet-1k", extra)


def _of_listed(file: WeightFile) -> Knowledge:
    """Return what a listed file was trained on.

    A whole network of a method learned the image labels that every row learns; as a beginning they are
    extra knowledge.
    """
    labels = () if file.whole else (f"{_short(label)} of {file.network}" for label in file.labels)
    beyond = (data for data in file.trained_on if data not in (*file.labels, IMAGENET.data))
    return Knowledge(", ".join(file.trained_on), (*beyond, *labels))


def _short(labels: str) -> str:
    """Return `VOC labels` for `VOC image labels`."""
    return labels.replace(" image ", " ")


def of_imagenet(name: str, source: str = "") -> Knowledge:
    """Return what the weights of `weights: imagenet` were trained on.

    name: network with timm's tag, if it has one, such as `vit_base_patch16_224.orig_in21k_ft_in1k`.
    source: where the weights were fetched; timm's hub names the tag that a bare name stands for.
    """
    listed = weight_file(f"{name}.imagenet")
    if listed:
        return _of_listed(listed)
    origin = name.partition(".")[2] or source.rpartition(".")[2]
    return of_tag(origin) if origin else SOME_IMAGENET


def of_initial(name: str, source: str = "") -> Knowledge:
    """Return what initial weights such as `resnet50.imagenet` were trained on; source: of `of_imagenet`."""
    listed = weight_file(name)
    return _of_listed(listed) if listed else of_imagenet(name.rpartition(".")[0], source)


def of_tag(tag: str) -> Knowledge:
    """Return what the weights with a tag of timm's were trained on."""
    parts = tag.split("_")
    matches = [words for pattern, words in TAGS if any(re.fullmatch(pattern, p) for p in parts)]
    ends = ["ImageNet-1k"] if any(part in ("in1k", "1k") for part in parts) else []
    if not matches and not ends:
        return NOT_KNOWN
    return Knowledge(", ".join([*matches, *ends]), tuple(matches))


def in_words(extra: Iterable[str]) -> str:
    """Return extra knowledge as the table prints it."""
    return ", ".join(dict.fromkeys(extra)) or NONE


def is_more_than_labels(words: str) -> bool:
    """Return whether the words name masks, boxes, texts or unknown data, beyond image labels."""
    return bool(MORE_THAN_LABELS.search(words))
