"""What a run has learned from, in the words of the table."""

from pathlib import Path
from typing import Any

import pytest

from wsss.runs import describe, knowledge
from wsss.runs.run import Run
from wsss.settings import method_spec
from wsss.settings.resolve import validate_params
from wsss.storage.files import write_json


def extra(run: str, what: str, **changed: Any) -> str:
    """Return the extra knowledge of an evaluation of a run."""
    return describe.extra_knowledge(Run.parse(run, validate_params(changed)), what)


def words(run: str, what: str, **changed: Any) -> str:
    """Return the networks of an evaluation of a run."""
    return describe.networks(Run.parse(run, validate_params(changed)), what)


@pytest.mark.parametrize(
    ("run", "what", "expected"),
    [
        ("shapes/cam/common/s0", "segmentation", "none"),
        ("voc12/cam/published", "seed", "none"),
        ("voc12/crt/published", "pseudo", "none"),
        ("voc12/crt/published", "segmentation", "COCO masks"),
        ("voc12/pcsformer/published", "seed", "none"),
        ("voc12/pcsformer/published", "pseudo", "saliency maps"),
        ("voc12/pcsformer/published", "segmentation", "COCO masks, saliency maps"),
        ("voc12/mctformer/published", "seed", "none"),
        ("voc12/mctformer/published", "walk", "VOC labels of PSA's classifier"),
        ("voc12/pcss/published", "segmentation", "VOC labels of PSA's classifier"),
        ("voc12/semformer/published", "seed", "none"),
        ("voc12/toco/published", "decode", "ImageNet-21k"),
        ("voc12/seco/published", "seed", "ImageNet-21k"),
        ("voc12/cpdgl/published", "decode", "ImageNet-21k"),
        ("voc12/supervised/common", "segmentation", "true masks"),
        ("voc12/clip_es/published", "seed", "CLIP (captions of 400 million images)"),
    ],
)
def test_extra_knowledge_of_the_methods(run: str, what: str, expected: str) -> None:
    name = run if run.endswith("s0") else f"{run}/s0"
    assert extra(name, what) == expected


def test_maps_of_a_network_are_saliency_trained_on_masks() -> None:
    data = {"voc12": {"saliency": "u2netp"}}
    name, words = "voc12/pcsformer/published/s0", "saliency trained on masks"
    assert extra(name, "walk", data=data) == "none"
    assert extra(name, "pseudo", data=data) == words
    assert extra(name, "segmentation", data=data) == f"COCO masks, {words}"
    unused = {"pseudo": {"saliency": {"use": False}}}
    assert extra("voc12/cam/common/s0", "pseudo", data=data, **unused) == "none"
    assert knowledge.is_more_than_labels(words)


def test_sentences_that_a_class_is_mixed_with_are_named() -> None:
    network = {"hyper_parameters": {"attributes": "sentences.yaml"}}
    changes = {"method": "excel", "set": {"networks": {"classifier": network}}}
    changed = {"overrides": {"sentences": changes}}
    clip = "CLIP (captions of 400 million images)"
    assert extra("voc12/excel/published/s0", "decode") == clip
    words = extra("voc12/excel/published/s0", "decode", **changed)
    assert words == f"{clip}, text on the classes"
    assert knowledge.is_more_than_labels(knowledge.SENTENCES)


@pytest.mark.parametrize("method", method_spec.methods())
def test_no_published_method_begins_with_unknown_weights(method: str, work: Path) -> None:
    if method_spec.spec(method).published:
        run = Run.parse(f"voc12/{method}/published/s0", validate_params({}))
        write_json(
            Path("work/pretrained/resnet101.imagenet.json"),
            {"source": "timm timm/resnet101.a1h_in1k"},
        )
        assert [
            extra
            for what in run.scored
            if "unknown" in (extra := describe.extra_knowledge(run, what))
        ] == []


def test_a_published_row_names_the_file_that_its_segmenter_begins_with() -> None:
    text = words("voc12/crt/published/s0", "segmentation")
    assert (
        "segmenter: resnet101_caffe, from deeplabv1_resnet101-coco.pth (ImageNet-1k, COCO masks)"
        in text
    )
    assert "random" not in text


def test_imagenet_21k_is_not_called_imagenet() -> None:
    text = words("voc12/seco/published/s0", "seed")
    assert text == "vit_base_patch16_224, ImageNet-21k, ImageNet-1k"


@pytest.mark.parametrize(
    ("stated", "shown", "expected"),
    [
        ({}, "from mine.pth (unknown)", "unknown"),
        ({"extra_knowledge": "none"}, "from mine.pth (nothing beyond ImageNet-1k)", "none"),
        ({"extra_knowledge": "ADE20K masks"}, "from mine.pth (ADE20K masks)", "ADE20K masks"),
    ],
)
@pytest.mark.parametrize("name", ["mine.pth", "random"])
def test_a_file_of_the_user_is_unknown_unless_the_settings_say_what_it_has_seen(
    stated: dict[str, str], shown: str, expected: str, name: str
) -> None:
    segmenter = {"weights": "none", "initial_file": f"weights/{name}", **stated}
    run = "shapes/supervised/common/s0"
    assert (
        words(run, "segmentation", segmenter=segmenter) == f"toy, {shown.replace('mine.pth', name)}"
    )
    extra_words = extra("shapes/cam/common/s0", "segmentation", segmenter=segmenter)
    assert extra_words == expected
    assert extra("shapes/cam/common/s0", "pseudo", segmenter=segmenter) == "none"


def test_both_backbones_of_a_network_are_named_with_what_they_have_seen() -> None:
    run = "voc12/weclip_plus/published/s0"
    clip, dino = "CLIP (captions of 400 million images)", "DINOv2 (images without labels)"
    assert extra(run, "decode") == f"{clip}, {dino}"
    assert f"classifier's second backbone: dinov2_vits14, {dino}" in words(run, "decode")


def test_words_of_the_user_do_not_hide_what_is_known_of_a_file() -> None:
    segmenter = {"segmenter": {"initial_file": "mine.pth", "extra_knowledge": "none"}}
    assert extra("voc12/crt/published/s0", "segmentation", **segmenter) == "COCO masks"
    segmenter["segmenter"]["initial_file"] = "deeplabv1_resnet101-coco.pth"
    assert extra("voc12/cam/common/s0", "segmentation", **segmenter) == "COCO masks"


def test_what_a_file_has_seen_changes_evaluations_and_nothing_else() -> None:
    runs = [
        Run.parse(
            "shapes/cam/common/s0",
            validate_params({"segmenter": {"initial_file": "a.pth", **more}}),
        )
        for more in ({}, {"extra_knowledge": "none"})
    ]
    changed = {stage for stage in runs[0].stages() if runs[0].slice(stage) != runs[1].slice(stage)}
    assert changed == {stage for stage in runs[0].stages() if stage.startswith("eval/")}


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("resnet50.tv_in1k", "", ()),
        ("resnet50", "timm timm/resnet50.a1_in1k", ()),
        ("convnext_base", "timm timm/convnext_base.fb_in22k_ft_in1k", ("ImageNet-21k",)),
        ("vit_base_patch16_224.augreg_in21k", "", ("ImageNet-21k",)),
        ("vit_base_patch14_dinov2.lvd142m", "", ("DINOv2 (images without labels)",)),
        ("vit_base_patch16_224.dino", "", ("DINO (images without labels)",)),
        ("vit_base_patch16_clip_224.openai", "", ("CLIP (captions of 400 million images)",)),
        ("vit_base_patch16_clip_224.laion2b_ft_in12k_in1k", "", ("ImageNet-12k", "captions")),
        ("tf_efficientnet_b0", "timm timm/tf_efficientnet_b0.ns_jft_in1k", ("JFT labels",)),
        ("resnext50_32x4d", "", ("unknown",)),
        ("resnet50", "", ()),
        ("vit_base_patch16_224.secret", "", ("unknown",)),
        ("resnet38", "a.pth sha256:0", ()),
    ],
)
def test_a_tag_of_timm_says_what_weights_have_seen(
    name: str, source: str, expected: tuple[str, ...]
) -> None:
    assert knowledge.of_imagenet(name, source).extra == expected


def test_the_record_of_fetched_weights_names_their_tag(work: Path) -> None:
    write_json(
        Path("work/pretrained/resnet50.imagenet.json"), {"source": "timm timm/resnet50.a1_in1k"}
    )
    segmenter = {"backbone": "resnet50", "weights": "imagenet"}
    run = "shapes/cam/common/s0"
    assert "segmenter: resnet50, ImageNet-1k" in words(run, "segmentation", segmenter=segmenter)
    assert extra(run, "segmentation", segmenter=segmenter) == "none"


@pytest.mark.parametrize(
    ("text", "is_below"),
    [
        *(
            (text, False)
            for text in ("none", "", "ImageNet-21k", "image labels", "unsupervised features")
        ),
        ("VOC labels of PSA's classifier", False),
        *(
            (text, True)
            for text in ("COCO masks", "true masks", "saliency maps", "captions", "unknown")
        ),
        *((text, True) for text in ("boxes", "CLIP, SAM", "image labels, saliency maps")),
    ],
)
def test_more_than_image_labels_stands_below_the_line(text: str, is_below: bool) -> None:
    assert knowledge.is_more_than_labels(text) == is_below
