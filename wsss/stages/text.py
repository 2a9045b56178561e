"""Turn the words of a dataset into vectors, once, as a small file that all its runs share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from wsss.data.index import load_index
from wsss.errors import ConfigError, DatasetError
from wsss.nets.clip_text import TextTower
from wsss.progress import log
from wsss.runs.record import Recorder
from wsss.runs.run import WORK, planned_runs
from wsss.runs.texts import Attributes, TextVectors, text_code, texts_of
from wsss.settings import Params
from wsss.settings.resolve import check_dataset
from wsss.storage import checkpoint
from wsss.storage.plain_yaml import parse

UNLIKE = 0.1  # share of the centres that a class is least like, which are not added to it (ExCEL)


def text(params: Params, dataset: str, digest: str | None = None) -> None:
    """Write the vectors of words that networks of the selected runs on a dataset are given.

    digest: of the settings of one file; by default all files are written.

    Raises:
        ConfigError: no network is given words.
    """
    check_dataset(params, dataset)
    texts = texts_of(run for run in planned_runs(params) if run.dataset == dataset)
    chosen = [text for text in texts if digest in (None, text.digest)]
    if not chosen:
        raise ConfigError(
            f"No selected run on {dataset} has a network that is given words{f' ({digest})' if digest else ''}. "
            "Add a method such as clip_es under the protocol published, or set its hyper-parameter text to words."
        )
    classes = load_index(WORK / dataset / "index.json", "train").classes
    for vectors in chosen:
        _write(vectors, classes)


def _write(text: TextVectors, classes: Sequence[str]) -> None:
    record = Recorder("text", text.settings, text_code())
    words, background = class_words(text, classes), background_words(text, classes)
    tower = TextTower(text.tower)
    vectors, files = mean_vectors(tower, words, text.templates), list[Path]()
    if text.attributes:
        sentences = attribute_sentences(text.attributes, classes)
        vectors = enriched(vectors, centres(tower(sentences), text.attributes))
        files.append(Path(text.attributes.file))
    tensors = {
        "classes": vectors,
        "background": mean_vectors(tower, background, text.templates),
    }
    header = {
        **text.settings,
        "source": tower.source,
        "classes": list(classes),
        "sentences": words,
        "backgrounds": background,
    }
    checkpoint.save(text.path, tensors, header)
    record.write(text.record, files, [text.path], source=tower.source, classes=list(classes))
    shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors.values())
    log.info("vectors %s of words, from %s -> %s", shapes, tower.source, text.path)


def class_words(text: TextVectors, classes: Sequence[str]) -> list[str]:
    """Return the words of each class: its name, unless the settings have others.

    Raises:
        ConfigError: the settings have words for a class that the dataset lacks.
    """
    words = dict(text.words)
    unknown = sorted(set(words) - set(classes))
    if unknown:
        raise ConfigError(
            f"data: words of {text.dataset} name a class {unknown[0]!r} that it does not have. Its classes "
            f"are {', '.join(classes)}."
        )
    return [words.get(name, name) for name in classes]


def background_words(text: TextVectors, classes: Sequence[str]) -> list[str]:
    """Return the words for backgrounds that are not the name of a class.

    Raises:
        ConfigError: there are none.
    """
    words = [word for word in text.background_words if word not in classes]
    if not words:
        raise ConfigError(
            f"data: {text.dataset} has no background_words, or its classes have all of them as names. "
            "Name something that is in its images and no class."
        )
    return words


def mean_vectors(
    encode: Callable[[Sequence[str]], Tensor], words: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """Return a unit vector for each of `words` (words, D): the mean over sentences of all templates.

    encode: returns a unit vector for each sentence.
    """
    sentences = [template.format(word) for word in words for template in templates]
    vectors = encode(sentences)
    return F.normalize(vectors.reshape(len(words), len(templates), -1).mean(1), dim=1)


def attribute_sentences(attributes: Attributes, classes: Sequence[str]) -> list[str]:
    """Return the sentences of all classes in a file, in lower case, class by class.

    Raises:
        DatasetError: the file has no sentences for a class, or fewer than there are centres.
    """
    file = attributes.file
    try:
        content = parse(Path(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    table = content if isinstance(content, Mapping) else {}
    lists = {name: sentences for name, sentences in table.items() if _are_sentences(sentences)}
    wrong = [name for name in [*classes, *table] if name not in lists or name not in classes]
    if wrong:
        raise DatasetError(
            f"{file} needs a list of sentences for each class of the dataset and for nothing else; "
            f"{wrong[0]!r} is not so. Write `{classes[0]}: [a sentence, another one]`, and so on."
        )
    sentences = [sentence.lower() for name in classes for sentence in lists[name]]
    if len(sentences) < attributes.centres:
        raise DatasetError(
            f"{file} has {len(sentences)} sentences, but attribute_centres is {attributes.centres}. Lower it."
        )
    return sentences


def _are_sentences(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(s, str) and s for s in value)


def centres(vectors: Tensor, attributes: Attributes) -> Tensor:
    """Return the centres (n, D) of clusters of the vectors of sentences (sentences, D)."""
    from sklearn.cluster import KMeans  # noqa: PLC0415  # takes a second

    model = KMeans(attributes.centres, random_state=0).fit(vectors.numpy())
    return torch.from_numpy(model.cluster_centers_).to(vectors)


def enriched(vectors: Tensor, attributes: Tensor) -> Tensor:
    """Return unit vectors of classes (C, D) after the mean of the attributes that each is like is added.

    vectors: unit vectors of classes (C, D). attributes: centres of sentences (n, D). Attributes count by
    the softmax of their similarity to the class, without those that are least like it.
    """
    similarity = vectors @ attributes.T
    unlike = similarity.argsort(1)[:, : int(UNLIKE * len(attributes))]
    weights = similarity.scatter(1, unlike, -torch.inf).softmax(1)
    return F.normalize(vectors + weights @ attributes, dim=1)
