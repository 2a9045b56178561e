"""Labels that attention and saliency agree on; attention as images."""

from golden import Golden

from wsss.data.index import Entry
from wsss.datasets.unlisted import missing_labels
from wsss.datasets.voc import CLASSES
from wsss.refine.saliency import attention_image, keep_agreed


def test_conflicts_are_left_out(golden: Golden) -> None:
    expected = golden.arrays("cse.npz")
    for case in dict.fromkeys(key.partition("_")[0] for key in expected):
        attention = {
            int(number): expected[f"{case}_attention_{number}"]
            for number in expected[f"{case}_listed_classes"]
            if f"{case}_attention_{number}" in expected
        }
        found = keep_agreed(expected[f"{case}_seed"], expected[f"{case}_saliency"], attention)
        golden.same(f"agreed labels {case}", found, expected[f"{case}_out"])


def test_attention_images(golden: Golden) -> None:
    for name in ("cam_aggregate.npz", "pc_cam_ms.npz"):
        expected = golden.arrays(name)
        for key in (key for key in expected if "att_" in key):
            found = attention_image(expected[key.replace("att_", "cam_")], wraps=True)
            golden.same(f"{name} {key}", found, expected[key])


def test_the_labels_that_a_published_list_lacks(golden: Golden) -> None:
    expected = golden.json("cse_label_differences.json")
    for name, numbers in expected.items():
        entry = Entry(name, "", None, CLASSES, "train", (1, 1), "")
        assert missing_labels("voc12", entry) == [CLASSES[number] for number in numbers]
    assert missing_labels("voc12", Entry("other", "", None, CLASSES, "train", (1, 1), "")) == []
