"""Runs side by side: the right labels in the right columns, shared files once, and refusals in one line."""

from pathlib import Path

import numpy as np
import pytest
from answer import wsss
from made_run import make_stages
from numpy.typing import NDArray
from PIL import Image

from wsss.data import labelmap
from wsss.data.images import load_entry
from wsss.data.index import Entry, load_index
from wsss.errors import MissingError, StaleError, WsssError
from wsss.report.figures import panels
from wsss.report.gallery.side_by_side import side_by_side
from wsss.runs.run import Run
from wsss.settings.resolve import load_params
from wsss.storage.archive import Reader

CAM, TOCO, MASKS = "shapes/cam/common/s0", "shapes/toco/common/s0", "shapes/supervised/common/s0"


def runs(*names: str) -> list[Run]:
    """Return runs under the present params.yaml."""
    params = load_params([Path("params.yaml")])
    return [Run.parse(name, params) for name in names]


def draw(
    *names: str,
    stages: tuple[str, ...] = ("segmentation",),
    images: int | list[str] = 2,
    output: str = "panels.png",
) -> NDArray[np.uint8]:
    """Draw runs side by side and return the picture."""
    side_by_side(runs(*names), stages, images, Path(output))
    return np.asarray(Image.open(output))


def split(name: str) -> list[Entry]:
    """Return the images of a split, sorted by name."""
    return sorted(load_index(Path("work/shapes/index.json")).split(name), key=lambda e: e.name)


def count(picture: NDArray[np.uint8]) -> int:
    """Return the number of columns of a picture, from the grey edges of its first row."""
    edges = (picture[panels.HEAD + 20] == panels.EDGE).all(-1)
    return int(edges.sum()) // 2


def cells(picture: NDArray[np.uint8], columns: int, entry: Entry) -> list[NDArray[np.uint8]]:
    """Return the pictures of the image in the first row, at the image's own size."""
    height, width = entry.size
    factor = panels.CELL // max(entry.size)
    side = (picture.shape[1] - panels.GAP) // columns
    rows = picture[panels.HEAD :][: height * factor : factor]
    margin = panels.GAP + (side - panels.GAP - width * factor) // 2
    lefts = [margin + column * side for column in range(columns)]
    return [rows[:, left : left + width * factor : factor] for left in lefts]


def drawn(entry: Entry, archive: Path) -> NDArray[np.uint8]:
    """Return the labels of an image in an archive, laid over it."""
    labels = labelmap.decode(Reader(archive).read(f"{entry.name}.png"), "labels")
    return panels.overlay(load_entry(entry), labels)


def test_a_run_has_a_column_and_an_image_a_row(made: Path) -> None:
    said = wsss("panels", CAM, TOCO, MASKS, "--images", "2")
    said.accepts()
    assert said.out == "2 images -> results/panels.png\n"
    picture = np.asarray(Image.open("results/panels.png"))
    assert count(picture) == 5
    names = panels.choose((entry.name for entry in split("val")), 2)
    entry = next(entry for entry in split("val") if entry.name == names[0])
    image, *shown, truth = cells(picture, 5, entry)
    assert (image == load_entry(entry)).all()
    for one, run in zip(shown, runs(CAM, TOCO, MASKS), strict=True):
        assert (one == drawn(entry, run.path("masks.zip"))).all()
    true_labels = np.asarray(Image.open(entry.mask or ""))
    assert (truth == panels.overlay(load_entry(entry), true_labels)).all()


def test_stages_stand_in_the_order_of_the_flow_each_with_every_run(made: Path) -> None:
    entry = split("train")[3]
    picture = draw(CAM, TOCO, MASKS, stages=("pseudo", "cam"), images=[entry.name])
    assert count(picture) == 6  # true masks have neither CAM nor pseudo label
    shown = cells(picture, 6, entry)[1:]
    for number, run in enumerate(runs(CAM, TOCO)):
        alone = cells(draw(str(run), stages=("cam",), images=[entry.name]), 3, entry)[1]
        assert (shown[number] == alone).all()
        assert (shown[number + 2] == drawn(entry, run.path("pseudo.zip"))).all()


def test_what_a_variant_shares_with_its_base_is_shown_once(made: Path) -> None:
    with Path("params.yaml").open("a") as file:
        file.write("variants: {bare: {method: cam, set: {pseudo: {threshold: 0.5}}}}\n")
    (variant,) = runs("shapes/bare/common/s0")
    index = load_index(Path("work/shapes/index.json"))
    make_stages(variant, index, variant.stages())
    pair = (CAM, "shapes/bare/common/s0")
    assert count(draw(*pair, stages=("cam", "seed"), images=1)) == 4
    assert count(draw(*pair, stages=("cam", "pseudo"), images=1)) == 5


def test_the_ending_says_the_format(made: Path) -> None:
    for ending, kind in ((".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP")):
        draw(CAM, output=f"picture{ending}")
        with Image.open(f"picture{ending}") as picture:
            assert picture.format == kind
    first = Path("picture.jpg").read_bytes()
    draw(CAM, output="picture.jpg")
    assert Path("picture.jpg").read_bytes() == first


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([CAM, "stamps/cam/common/s0"], {}, "no images in common. Show each dataset by itself"),
        (["shapes/crt_localization/common/s0"], {}, "makes boxes, not masks"),
        ([CAM], {"stages": ("cams",)}, "no stage 'cams' to show. Name one of cam, seed, pseudo"),
        ([CAM], {"stages": ("cam", "segmentation")}, "different images, train and val"),
        ([CAM, MASKS], {"stages": ("decode",)}, "None of the runs has decode"),
        ([CAM], {"images": ["nowhere"]}, "has no image 'nowhere'"),
        ([CAM], {"output": "panels.gif"}, r"panels.gif: name it with one of the endings .png"),
        ([CAM], {"output": "panels"}, "name it with one of the endings"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(
    made: Path, names: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(WsssError, match=message) as refused:
        draw(*names, **options)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_a_picture_that_is_too_large_for_its_format_is_refused(made: Path) -> None:
    names = [entry.name for entry in split("val")] * 20
    draw(CAM, images=names)
    with pytest.raises(
        WsssError, match=r"panels.webp: \d+ x \d+ pixels are more than WEBP can hold"
    ):
        draw(CAM, images=names, output="panels.webp")


def test_an_image_of_another_split_is_refused(made: Path) -> None:
    with pytest.raises(WsssError, match="is of the split train, these stages are of val"):
        draw(CAM, images=[split("train")[0].name])


def test_a_stage_that_is_not_finished_or_out_of_date_leaves_the_earlier_picture(made: Path) -> None:
    draw(CAM)
    before = Path("panels.png").read_bytes()
    (made / "work" / CAM / "pseudo.json").unlink()
    with pytest.raises(MissingError, match=f"run snakemake --cores 1 work/{CAM}/pseudo.zip"):
        draw(CAM, stages=("pseudo",))
    (made / "params.yaml").write_text("calibration: none\nevaluation: {seed_threshold: 0.2}\n")
    with pytest.raises(StaleError, match="threshold was 0.4, is 0.2"):
        draw(CAM)
    assert Path("panels.png").read_bytes() == before
