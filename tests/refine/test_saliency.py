"""Labels that attention and saliency agree on."""

import numpy as np

from wsss.refine.saliency import attention_image, keep_agreed

SIZE = (20, 20)


def picture(rows: slice, value: int = 255) -> np.ndarray:
    found = np.zeros(SIZE, np.uint8)
    found[rows] = value
    return found


def test_labels_stay_where_all_agree_and_are_unknown_elsewhere() -> None:
    top, labels = slice(0, 10), np.zeros(SIZE, np.uint8)
    labels[:8] = 4
    found = keep_agreed(labels, picture(top), {3: picture(top)})
    assert (found[:8] == 4).all()
    assert (found[8:10] == 255).all()  # background there, but salient and attended
    assert (found[10:] == 0).all()


def test_two_classes_that_attend_to_one_place_are_a_conflict() -> None:
    top, labels = slice(0, 10), np.zeros(SIZE, np.uint8)
    labels[:10] = 4
    found = keep_agreed(labels, picture(top), {3: picture(top), 5: picture(slice(5, 12))})
    assert (found[:5] == 4).all()
    assert (found[5:12] == 255).all()


def test_an_image_with_next_to_no_label_has_none() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[0, :3] = 4  # less than a hundredth
    assert (keep_agreed(labels, picture(slice(0, 1)), {3: picture(slice(0, 1))}) == 255).all()


def test_a_map_without_evidence_is_no_attention_unless_it_wraps_as_published() -> None:
    nothing = np.full(SIZE, -1, np.float32)
    assert attention_image(nothing) is None
    assert (attention_image(nothing, wraps=True) == 255).all()
    some = np.where(np.arange(400).reshape(SIZE) > 9, 0.5, -0.1).astype(np.float32)
    clean = attention_image(some)
    assert clean is not None
    assert sorted(set(clean.ravel().tolist())) == [0, 255]
    assert attention_image(some, wraps=True)[0, 0] == 256 - 51
