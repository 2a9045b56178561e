"""CLIP's text tower, as open_clip builds it: from sentences to unit vectors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.errors import MissingError
from wsss.nets.weights import CLIP_VARIABLE, clip_file
from wsss.storage import checkpoint
from wsss.storage.files import sha256

NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's files
BATCH = 64  # sentences in one forward pass


class TextTower:
    """The text tower `name`, with the weights of the file that `WSSS_CLIP` names, or of the hub.

    source: where the weights are from.

    Raises:
        MissingError: open_clip is not installed, or there are no weights.
    """

    def __init__(self, name: str) -> None:
        try:
            import open_clip  # noqa: PLC0415  # optional, and takes seconds to import
        except ImportError:
            raise MissingError(
                "open_clip_torch is not installed, and words become vectors with it. Install it with "
                "`uv sync --extra text`; only the machine that runs `wsss text` needs it."
            ) from None
        self._net, self.source = _loaded(open_clip, name)
        self._tokenise = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Return a unit vector for each sentence (sentences, D)."""
        vectors = [
            self._net.encode_text(self._tokenise(list(sentences[start : start + BATCH])))
            for start in range(0, len(sentences), BATCH)
        ]
        return F.normalize(torch.cat(vectors).float(), dim=1)


def _loaded(open_clip: Any, name: str) -> tuple[Any, str]:
    """Return both towers `name` with their weights, in evaluation mode, and the source of the weights."""
    file = clip_file()
    if file is None:
        return _from_hub(open_clip, name).eval(), f"open_clip {name}, openai"
    logging.disable(
        logging.WARNING
    )  # it would warn that the weights are random, which are filled below
    try:
        net = open_clip.create_model(name)
    finally:
        logging.disable(logging.NOTSET)
    state = checkpoint.load_foreign(file)
    weights = {key: value.float() for key, value in state.items() if key not in NO_WEIGHTS}
    checkpoint.fill(net, weights, file)
    return net.eval(), f"{file.name} sha256:{sha256(file)}"


def _from_hub(open_clip: Any, name: str) -> Any:
    try:
        return open_clip.create_model(name, pretrained="openai")
    except Exception as error:  # noqa: BLE001  # clients of the hub raise any exception when offline
        raise MissingError(
            f"The weights of CLIP's text tower could not be downloaded ({str(error).splitlines()[0][:120]}). "
            f"Run this on a machine with access to the hub, or name a file with both towers by {CLIP_VARIABLE}."
        ) from None
