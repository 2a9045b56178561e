"""A text tower of CLIP that fits in a test: open_clip's own code at toy size, with random weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from wsss.settings.networks import TEXT_TOWERS

TOWERS = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 64,
        "heads": 2,
        "layers": 2,
    },
}
NAME = "toy-clip"


@contextmanager
def toy_tower(folder: Path) -> Iterator[Path]:
    """Let `clip_toy` have a text tower for a block; yield the file with its weights, in a folder."""
    import open_clip  # noqa: PLC0415  # takes seconds

    about, weights = folder / f"{NAME}.json", folder / "both.pt"
    about.write_text(json.dumps(TOWERS))
    open_clip.add_model_config(about)
    torch.manual_seed(0)
    torch.save(open_clip.create_model(NAME).eval().state_dict(), weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TEXT_TOWERS, "clip_toy", NAME)
        patch.setenv("WSSS_CLIP", str(weights))
        yield weights
