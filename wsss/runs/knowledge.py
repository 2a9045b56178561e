"""What published weights were trained on, for the table's column *extra knowledge*.

This module is the one place that says so for every file of weights. Imports neither torch nor timm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NONE = "none"
UNKNOWN = "unknown"
TRUE_MASKS = "true masks"
SALIENCY = "saliency maps"
VOC_LABELS = "VOC labels of PSA's classifier"  # on VOC: the image labels of the same images


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

# Published files, by name. Their authors' pages and code say what the files were trained on.
FILES = {
    # kazuto1011/deeplab-pytorch: its DeepLab-v2 starts from a DeepLab-v1 that learned COCO's masks.
    "deeplabv1_resnet101-coco.pth": Knowledge("ImageNet-1k, COCO masks", ("COCO masks",)),
    # The same, trained on the true masks of VOC's augmented training set.
    "deeplabv2_resnet101_msc-vocaug-20000.pth": Knowledge(
        "ImageNet-1k, COCO masks, VOC masks", ("COCO masks", TRUE_MASKS)
    ),
    # jiwoon-ahn/psa: a classifier of VOC's image labels, from ImageNet weights.
    "resnet38_cls.pth": Knowledge("ImageNet-1k, VOC image labels", (VOC_LABELS,)),
    "res38_cls.pth": Knowledge("ImageNet-1k, VOC image labels", (VOC_LABELS,)),
    # YudeWang/semantic-segmentation-codebase: ResNet-101 with a deep stem, from ImageNet.
    "resnet101s-03a0f310.pth": IMAGENET,
    "resnet50-19c8e357.pth": IMAGENET,  # torchvision
    "resnet152-b121ed2d.pth": IMAGENET,  # torchvision
    "deit_small_patch16_224-cd65a155.pth": IMAGENET,  # facebookresearch/deit
    "deit_base_patch16_224-b5f2ef4d.pth": IMAGENET,
    "deit_base_distilled_patch16_224-df68dfff.pth": IMAGENET,
    "Conformer_small_patch16.pth": IMAGENET,  # pengzhiliang/Conformer
    # google-research/vision_transformer, as timm 0.1 converted it
    "jx_vit_base_p16_224-80ecf9dd.pth": Knowledge("ImageNet-21k, ImageNet-1k", ("ImageNet-21k",)),
    # PCSformer's networks learn VOC's image labels, from Conformer's ImageNet weights.
    "PC_230830_10_664.pth": Knowledge("ImageNet-1k, VOC image labels"),
    "SP_230831_19_682.pth": Knowledge("ImageNet-1k, VOC image labels"),
    # SemFormer's network learns VOC's image labels, from DeiT's ImageNet weights.
    "SemFormer@CAAE@DeiT-B-Dist.pth": Knowledge("ImageNet-1k, VOC image labels"),
    "CAAE@DeiT-B-Dist.pth": Knowledge("ImageNet-1k, VOC image labels"),
}

# `weights: imagenet` of networks whose name has no tag of timm's: from wsss/nets/weights.yaml.
IMAGENET_NETWORKS = {
    "resnet38": IMAGENET,  # itijyou/ademxapp: 1,000 classes
    "conformer_small_patch16": IMAGENET,
    "tf_efficientnet_lite0": IMAGENET,
}

# What a tag of timm's says about the data, as patterns of its parts: in21k_ft_in1k is ImageNet-21k first.
TAGS = (
    (r"in(w?21|22)k", "ImageNet-21k"),
    (r"in12k", "ImageNet-12k"),
    (r"jft", "JFT labels"),
    (r"ig1b|swag|seer|yfcc\w*", "web images and their tags"),
    (r"laion\w*|openai|\w*clip\d*|webli|datacomp\w*|dfn\w*|pali|florence\d*", "captions"),
    (r"sa1b", "SAM masks"),
    (r"dino|lvd\w*", "images without labels"),
)
# Words that mark more than image labels: masks, boxes and texts that people drew or wrote.
MORE_THAN_LABELS = re.compile(
    r"\b(masks?|boxes|scribbles|points|saliency|captions?|clip|sam|dino|text|language|diffusion|unknown)\b",
    re.IGNORECASE,
)


def of_file(path: str, stated: str | None) -> Knowledge:
    """Return what a file of weights was trained on; stated: the user's own words for the extra.

    What is known of a file cannot be unsaid: words that are left over from another file hide nothing.
    """
    name = Path(path).name
    if name in FILES or stated is None:
        return FILES.get(name, NOT_KNOWN)
    extra = () if stated.strip().lower() == NONE else (stated.strip(),)
    return Knowledge(", ".join(extra) or "nothing beyond ImageNet-1k", extra)


def of_imagenet(name: str, source: str = "") -> Knowledge:
    """Return what the weights of `weights: imagenet` were trained on.

    name: network with timm's tag, if it has one, such as `vit_base_patch16_224.orig_in21k_ft_in1k`.
    source: where the weights were fetched; timm's hub names the tag that a bare name stands for.
    """
    network, _, tag = name.partition(".")
    if network in IMAGENET_NETWORKS and not tag:
        return IMAGENET_NETWORKS[network]
    origin = tag or source.rpartition(".")[2]
    return of_tag(origin) if origin else SOME_IMAGENET


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
