"""Vectors of a dataset's words: made once by a text tower, given to networks, checked by their records."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from made_clip import NAME, toy_tower
from sklearn.cluster import KMeans

from wsss.data.index import Index, save_index
from wsss.datasets import coco, voc
from wsss.errors import ConfigError, DatasetError, MissingError, StaleError
from wsss.inference.trained import restore
from wsss.machine.runtime import Runtime
from wsss.methods.base import build_method
from wsss.runs.inputs import data_slice
from wsss.runs.run import Run
from wsss.runs.texts import TextVectors, text_vectors, texts_of
from wsss.runs.verification import shared_mismatches
from wsss.settings import Params
from wsss.settings.networks import TEXT_TOWERS
from wsss.settings.resolve import validate_params
from wsss.stages.text import (
    attribute_sentences,
    background_words,
    class_words,
    enriched,
    mean_vectors,
    text,
)
from wsss.stages.train import train
from wsss.storage import checkpoint
from wsss.storage.files import read_json

WORDS = {
    "methods": ["clip_es"],
    "overrides": {
        "words": {
            "method": "clip_es",
            "set": {"networks": {"clip": {"hyper_parameters": {"text": "words"}}}},
        }
    },
}
ORIGAMI = ("a clean origami {}.",)


def published(dataset: str) -> TextVectors:
    vectors = text_vectors(Run.parse(f"{dataset}/clip_es/published/s0", Params()), "clip")
    assert vectors is not None
    return vectors


@pytest.fixture
def toy_words(monkeypatch: pytest.MonkeyPatch, work: Path, squares: Index) -> Run:
    """Return a run on squares whose toy tower is given words."""
    monkeypatch.setitem(TEXT_TOWERS, "clip_toy", "toy-clip")
    run = Run.parse("shapes/clip_es/common/s0", validate_params(WORDS))
    save_index(squares, run.index)
    return run


def test_published_words_fit_the_classes_of_voc_and_coco() -> None:
    of_voc, of_coco = published("voc12"), published("coco14")
    assert of_voc.templates == of_coco.templates == ORIGAMI
    assert class_words(of_voc, voc.CLASSES)[14] == "person with clothes,people,human"
    assert len(background_words(of_voc, voc.CLASSES)) == 25
    words = dict(zip(coco.CLASSES, class_words(of_coco, coco.CLASSES), strict=True))
    assert (words["tv"], words["snowboard"], words["donut"]) == (
        "tvmonitor screen",
        "sknowboard",
        "donut",
    )
    assert len(background_words(of_coco, coco.CLASSES)) == 23


def test_words_change_the_file_and_no_index() -> None:
    changed = validate_params({"data": {"voc12": {"words": {"cow": "cattle"}}}})
    run = Run.parse("voc12/clip_es/published/s0", changed)
    vectors = text_vectors(run, "clip")
    assert vectors is not None
    assert class_words(vectors, voc.CLASSES)[9] == "cattle"
    assert class_words(vectors, voc.CLASSES)[2] == "bird avian"  # the others stay
    assert vectors.path != published("voc12").path
    assert data_slice(changed, "voc12") == data_slice(Params(), "voc12")


def test_seeds_share_a_file_and_networks_without_words_need_none() -> None:
    params = validate_params({"seeds": [0, 1]})
    runs = [Run.parse(f"voc12/clip_es/published/s{seed}", params) for seed in (0, 1)]
    others = [
        Run.parse(f"shapes/{method}/common/s0", params)
        for method in ("clip_es", "cam", "supervised")
    ]
    assert texts_of([*runs, *others]) == [published("voc12")]


def test_words_of_no_class_and_words_without_a_text_tower_are_refused() -> None:
    vectors = published("voc12")
    with pytest.raises(ConfigError, match="words of voc12 name a class 'bird' that it does not"):
        class_words(vectors, ("cat", "dog"))
    assert "sky" not in background_words(vectors, ("sky", "dog"))
    with pytest.raises(ConfigError, match="data: voc12 has no background_words"):
        background_words(replace(vectors, background_words=("sky",)), ("sky", "dog"))
    run = Run.parse("shapes/clip_es/common/s0", validate_params(WORDS))
    with pytest.raises(ConfigError, match="text is words, but clip_toy knows no words. Set it to"):
        text_vectors(run, "clip")


def test_vectors_are_means_over_templates() -> None:
    table = {"a cat": [1.0, 0.0], "the cat": [0.0, 1.0], "a dog": [0.6, 0.8], "the dog": [0.6, 0.8]}
    vectors = mean_vectors(
        lambda sentences: torch.tensor([table[sentence] for sentence in sentences]),
        ["cat", "dog"],
        ["a {}", "the {}"],
    )
    assert torch.allclose(vectors, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))


def test_a_network_is_given_the_vectors_of_words(toy_words: Run, squares: Index) -> None:
    vectors = text_vectors(toy_words, "clip")
    assert vectors is not None
    with pytest.raises(MissingError, match=rf"{vectors.path} is missing. Run `wsss text shapes`"):
        train(toy_words, "clip")
    rows = F.normalize(torch.randn(8, 64), dim=1)
    tensors = {"classes": rows[:3], "background": rows[3:]}
    checkpoint.save(vectors.path, tensors, {"classes": ["other"]})
    with pytest.raises(StaleError, match="of other classes than the dataset has"):
        train(toy_words, "clip")
    checkpoint.save(vectors.path, tensors, {"classes": list(squares.classes)})
    train(toy_words, "clip")
    record = read_json(toy_words.path("clip.json"))
    assert vectors.path.as_posix() in record["inputs"]
    method = build_method(toy_words, 3)
    path = toy_words.path("clip.safetensors")
    net = restore(lambda: method.build("clip"), path, Runtime.start())
    assert torch.equal(net.state_dict()["background"], tensors["background"])  # of any number
    assert torch.equal(net.state_dict()["classes"], tensors["classes"])


def test_without_open_clip_the_message_names_the_extra(
    toy_words: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingError, match="open_clip_torch is not installed.*--extra text"):
        text(toy_words.params, "shapes")
    with pytest.raises(ConfigError, match="No selected run on shapes has a network that is given"):
        text(Params(), "shapes")


def test_open_clip_turns_words_into_vectors(toy_words: Run, work: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    with toy_tower(work) as file:
        text(toy_words.params, "shapes")
    (vectors,) = texts_of([toy_words])
    tensors, about = checkpoint.load(vectors.path)
    net = open_clip.create_model(NAME).eval()
    net.load_state_dict(torch.load(file))
    tokens = open_clip.get_tokenizer(NAME)(["a clean origami green."])
    with torch.inference_mode():
        expected = F.normalize(net.encode_text(tokens), dim=1)[0]
    assert torch.allclose(tensors["classes"][1], expected, atol=1e-6)
    assert tensors["background"].shape == (25, 64)
    assert about["source"].startswith("both.pt sha256:")
    assert list(shared_mismatches(vectors)) == []
    train(toy_words, "clip")  # finds them
    checkpoint.save(vectors.path, tensors, {"classes": []})
    assert "is not the file that" in next(shared_mismatches(vectors))


def test_without_hub_and_file_the_message_names_both(
    toy_words: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("open_clip")
    monkeypatch.delenv("WSSS_CLIP", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(TEXT_TOWERS, "clip_toy", "ViT-B-32-quickgelu")
    with pytest.raises(MissingError, match="could not be downloaded.*both towers by WSSS_CLIP"):
        text(toy_words.params, "shapes")


def with_attributes(centres: int = 2) -> Run:
    """Return a run of ExCEL on squares that is given words and sentences."""
    hyper = {"text": "words", "attributes": "sentences.yaml", "attribute_centres": centres}
    network = {"networks": {"classifier": {"hyper_parameters": hyper}}}
    raw = {"methods": ["excel"], "overrides": {"words": {"method": "excel", "set": network}}}
    return Run.parse("shapes/excel/common/s0", validate_params(raw))


SENTENCES = {
    "red": ["A red thing. It is like blood.", "it is warm"],
    "green": ["it is like leaves"],
    "blue": ["it is cold"],
}


class Letters:
    """Turns a sentence into the unit vector of how often it has each letter; open_clip is optional."""

    source = "letters"

    def __init__(self, name: str) -> None:
        assert name == "toy-clip"

    def __call__(self, sentences: list[str]) -> torch.Tensor:
        """Return a vector for each sentence (sentences, 64)."""
        counts = [[s.count(chr(ord("A") + n)) for n in range(64)] for s in sentences]
        return F.normalize(torch.tensor(counts, dtype=torch.float32), dim=1)


def test_sentences_of_a_user_are_added_to_the_words(
    toy_words: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_attributes()
    monkeypatch.setattr("wsss.stages.text.TextTower", Letters)
    Path("sentences.yaml").write_text(json.dumps(SENTENCES))
    text(run.params, "shapes")
    (vectors,) = texts_of([run])
    tensors, about = checkpoint.load(vectors.path)
    assert about["attributes"]["centres"] == 2
    assert read_json(vectors.record)["inputs"].keys() == {"sentences.yaml"}
    assert list(shared_mismatches(vectors)) == []
    encode = Letters("toy-clip")
    words = encode([f"a clean origami {name}." for name in SENTENCES])
    sentences = encode([s.lower() for name in SENTENCES for s in SENTENCES[name]])
    model = KMeans(2, random_state=0).fit(sentences.numpy())
    expected = enriched(words, torch.from_numpy(model.cluster_centers_))
    assert torch.allclose(tensors["classes"], expected, atol=1e-5)
    assert torch.allclose(tensors["classes"].norm(dim=1), torch.ones(3))
    assert not torch.allclose(tensors["classes"], words, atol=1e-2)
    plain = text_vectors(toy_words, "clip")
    assert plain is not None
    assert plain.path != vectors.path
    Path("sentences.yaml").write_text(json.dumps({**SENTENCES, "blue": ["it is clear"]}))
    assert texts_of([run])[0].path != vectors.path


def test_a_class_gets_what_it_is_like_and_not_what_it_is_least_like() -> None:
    classes = torch.eye(2, 12)
    centres = torch.cat(
        [torch.eye(9, 12) * 0.9, -torch.eye(1, 12)]
    )  # the last is unlike the first class
    result = enriched(classes, centres)
    assert torch.allclose(result.norm(dim=1), torch.ones(2))
    similarity = classes[0] @ centres.T
    weights = similarity[:9].softmax(0)
    expected = classes[0] + weights @ centres[:9]
    assert torch.allclose(result[0], expected / expected.norm(), atol=1e-6)
    assert torch.allclose(
        enriched(classes, centres[:5]),
        F.normalize(classes + (classes @ centres[:5].T).softmax(1) @ centres[:5], dim=1),
    )  # of fewer than ten centres none is left out


@pytest.mark.parametrize(
    ("content", "centres", "message"),
    [
        ({"red": ["a"], "green": ["b"]}, 1, "for nothing else; 'blue' is not so"),
        ({**SENTENCES, "pink": ["c"]}, 1, "'pink' is not so. Write `red: "),
        ({**SENTENCES, "red": "warm"}, 1, "'red' is not so"),
        ({**SENTENCES, "red": []}, 1, "'red' is not so"),
        ({**SENTENCES, "red": [1]}, 1, "'red' is not so"),
        ("no table", 1, "'red' is not so"),
        (SENTENCES, 5, "has 4 sentences, but attribute_centres is 5. Lower it"),
    ],
)
def test_sentences_that_do_not_fit_the_classes_are_refused(
    toy_words: Run, content: object, centres: int, message: str
) -> None:
    Path("sentences.yaml").write_text(json.dumps(content))
    attributes = texts_of([with_attributes(centres)])[0].attributes
    assert attributes is not None
    with pytest.raises(DatasetError, match=message):
        attribute_sentences(attributes, list(SENTENCES))


def test_missing_sentences_are_one_line(toy_words: Run) -> None:
    message = "sentences.yaml is missing. Put the sentences there, or correct .*excel.*attributes"
    with pytest.raises(MissingError, match=message):
        texts_of([with_attributes()])
