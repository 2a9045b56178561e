"""Which jobs run again after an edit of the package."""

import pytest
from checkout import Checkout
from test_flow_plan import END, LOCALIZED, MASKED, SCORED, SEGMENTED, WALKED, rules

EDITS = {
    "a comment": ("wsss/refine/random_walk.py", "\nimport ", "\n# why\nimport ", set()),
    "a docstring": ("wsss/stages/walk.py", '"""', '"""Also: ', set()),
    "messages": ("wsss/progress.py", "QUIET_SECONDS = 10.0", "QUIET_SECONDS = 11.0", set()),
    "the walk": ("wsss/stages/walk.py", "\nfrom ", "\nEDITED = 1\nfrom ", WALKED),
    "a method": (
        "wsss/methods/cam/method.py",
        "\nMETHOD",
        "\nEDITED = 1\nMETHOD",
        {"train"} | LOCALIZED,
    ),
    "inference": ("wsss/stages/masks.py", "\nfrom ", "\nEDITED = 1\nfrom ", MASKED),
    "segmenter": ("wsss/stages/segmenter.py", "\nfrom ", "\nEDITED = 1\nfrom ", SEGMENTED),
    "scores": ("wsss/stages/evaluate.py", "\nfrom ", "\nEDITED = 1\nfrom ", SCORED | END),
    "the table": ("wsss/report/tables/long.py", 'GAIN = "gain', 'GAIN = "the gain', END),
    "a function that no stage uses": (
        "wsss/storage/files.py",
        "\ndef read_json(",
        "\ndef unused() -> int:\n    return 1\n\n\ndef read_json(",
        set(),
    ),
}


ALSO = (
    "a docstring",
    "messages",
    "a method",
    "inference",
    "segmenter",
    "scores",
    "the table",
)  # like others


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in ALSO else []) for n in EDITS]
)
def test_an_edit_runs_what_it_can_change_and_nothing_else(mine: Checkout, name: str) -> None:
    path, old, new, expected = EDITS[name]
    text = (mine.folder / path).read_text()
    assert old in text
    (mine.folder / path).write_text(text.replace(old, new, 1))
    [jobs] = mine.dry({})
    assert rules(jobs) == expected
