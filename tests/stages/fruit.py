"""A user's table of apples and pears, and what `wsss data check` says of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from answer import Answer, wsss
from made_data import mask, picture

LABELS = (
    "apple", "apple", "apple", "apple", "pear", "pear", "pear", "apple;pear", "apple;pear",
    "apple;pear", "apple", "pear", "pear", "apple;pear",
)  # fmt: skip
TRAIN = 10
RIGHT = {"apple": 1, "pear": 2}
SIZE = (16, 16)
HOLDS = "fruit: 2 classes (apple 7, pear 6), 10 train, 4 val, 14 masks\n"

Values = Callable[[int, Sequence[str]], Sequence[int]]


def numbered(numbers: dict[str, int]) -> Values:
    """Return the function from an image to the values of its mask; a class without number is absent."""
    return lambda _, names: [numbers[name] for name in names if name in numbers]


FITTING = numbered(RIGHT)


def grow(
    folder: Path,
    values: Values = FITTING,
    labels: Sequence[str] = LABELS,
    unmasked: Sequence[int] = (),
    settings: str = "",
) -> None:
    """Write the table with images and masks into the current folder, and params.yaml.

    values: of the mask, from the image's number and the classes that stand in LABELS. labels: the
    cells of the table. unmasked: the images without a mask. settings: further ones of the table.
    """
    rows = ["image,labels,split,mask"]
    for number, (names, cell) in enumerate(zip(LABELS, labels, strict=True)):
        picture(folder / f"p{number}.png", number, SIZE)
        mask(folder / f"m{number}.png", *values(number, names.split(";")), size=SIZE)
        split = "train" if number < TRAIN else "val"
        masked = "" if number in unmasked else f"m{number}.png"
        rows.append(f'p{number}.png,"{cell}",{split},{masked}')
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    table = f"{{table: images.csv{settings}}}"
    (folder / "params.yaml").write_text(
        f"datasets: [fruit]\nmethods: [cam]\ndata: {{csv: {{fruit: {table}}}}}\n"
    )


def check(*options: str) -> Answer:
    return wsss("data", "check", "fruit", *options)


def relabelled(old: str, new: str, count: int = len(LABELS)) -> list[str]:
    """Return LABELS with `new` for `old` in the first `count` cells that hold it."""
    cells = []
    for cell in LABELS:
        replaced = cell.replace(old, new) if count else cell
        count -= replaced != cell
        cells.append(replaced)
    return cells
