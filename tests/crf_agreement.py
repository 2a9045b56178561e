"""How often the CRF in PyTorch and pydensecrf give one label, on photographs, for every CRF set.

python tests/crf_agreement.py    prints the table of docs/speed.md (ten minutes on one core)
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from wsss.datasets.drawn.stamps import photographs
from wsss.refine import crf
from wsss.settings import StampsParams
from wsss.settings.base import CRF_SETS

SIZE = (375, 500)
STAMPS, STAMP_PX = Path(StampsParams().root), 300
Picture = NDArray[np.uint8]


def samples(size: tuple[int, int] = SIZE) -> list[Picture]:
    """Return two photographs of scikit-learn at `size` (height, width)."""
    images = load_sample_images().images
    return [np.array(Image.fromarray(image).resize(size[::-1])) for image in images]


def stamps() -> Iterator[Picture]:
    """Yield a cut-out photograph of each class of `stamps`, before a photograph; none if not installed."""
    background = Image.fromarray(samples()[0])
    for files in photographs(STAMPS)["val"].values() if STAMPS.is_dir() else ():
        stamp = Image.open(files[0]).convert("RGBA")
        stamp.thumbnail((STAMP_PX, STAMP_PX))
        scene = background.crop((60, 60, 60 + stamp.width, 60 + stamp.height))
        scene.paste(stamp, mask=stamp)
        yield np.array(scene)


def smooth_scores(size: tuple[int, int], labels: int) -> NDArray[np.float32]:
    """Return smooth random probabilities (labels, height, width)."""
    coarse = np.random.default_rng(labels).normal(0, 2, (labels, 9, 12)).astype(np.float32)
    maps = [Image.fromarray(part).resize(size[::-1], Image.Resampling.BICUBIC) for part in coarse]
    raised = np.exp(np.stack([np.asarray(part) for part in maps]))
    return raised / raised.sum(0)


def shares(pictures: list[Picture], labels: int, crf_set: str) -> list[float]:
    """Return the share of pixels with one label of both, for each picture."""
    equal = []
    for picture in pictures:
        scores = smooth_scores(picture.shape[:2], labels)
        library, ours = (
            crf.refine_scores(picture, scores, crf_set, device).argmax(0)
            for device in (None, "cpu")
        )
        equal.append(float((library == ours).mean()))
    return equal


def main() -> None:
    """Print a row for each CRF set."""
    pictures, cut_out = samples(), list(stamps())
    print("| CRF set | 3 labels | 8 labels | cut-out photographs, 3 labels | the lowest |")
    print("|---|--:|--:|--:|--:|")
    for crf_set in CRF_SETS:
        columns = [
            shares(pictures, 3, crf_set),
            shares(pictures, 8, crf_set),
            shares(cut_out, 3, crf_set),
        ]
        cells = [f"{np.mean(column):.4%}" for column in columns if column]
        lowest = min(min(column) for column in columns if column)
        print(f"| {crf_set} | {' | '.join(cells)} | {lowest:.4%} |", flush=True)


if __name__ == "__main__":
    main()
