"""The dense CRF against the sets of the published code."""

import fill
import numpy as np
from golden import Golden

from wsss.refine import crf

CLOSE = {"absolute": 1e-3, "share": 0.99}


def test_score_unaries(golden: Golden, crf_device: str | None) -> None:
    expected = golden.arrays("crf.npz")
    height, width, seed = golden.case("crf", "crf")
    image, scores = fill.image(height, width, seed), expected["probs"]
    for name in (key.removeprefix("pred_") for key in expected if key.startswith("pred_")):
        if name == "psa_bgr":
            continue
        posterior = crf.refine_scores(image, scores, name, crf_device)
        wanted = expected[f"Q_{name}"]
        found = posterior if wanted.size == posterior.size else posterior.max(0)
        golden.close(f"crf {name} Q", found.reshape(wanted.shape), wanted, **CLOSE)
        golden.same(f"crf {name} labels", posterior.argmax(0), expected[f"pred_{name}"], 0.995)


def test_absent_labels_and_colour_order(golden: Golden, crf_device: str | None) -> None:
    expected = golden.arrays("crf.npz")
    height, width, seed = golden.case("crf", "crf")
    image, scores = fill.image(height, width, seed), expected["probs"]
    wide = np.zeros((21, height, width), np.float32)
    wide[[0, 4, 15, 18]] = scores
    found = crf.refine_scores(image, wide, "psa", crf_device).argmax(0)
    golden.same("crf psa, 21 labels", found, expected["psa21_pred"], 0.995)
    present = np.array([0, 4, 15, 18])[
        crf.refine_scores(image, scores, "psa", crf_device).argmax(0)
    ]
    golden.same("crf psa, present labels only", present, expected["psa21_pred"], 0.995)
    swapped = crf.refine_scores(image[..., ::-1], scores, "psa", crf_device).argmax(0)
    golden.same("crf psa, BGR", swapped, expected["pred_psa_bgr"], 0.995)


def test_hard_label_unaries(golden: Golden, crf_device: str | None) -> None:
    expected = golden.arrays("crf.npz")
    image = fill.image(*golden.case("crf", "crf"))
    labels = expected["probs"].argmax(0)
    cases = (("n4", 4, "irn_label"), ("n21", 21, "irn_label"), ("n4_t1", 4, "irn_label_once"))
    for name, count, preset in cases:
        unary = crf.labels_unary(labels, count)
        posterior = crf.infer(image, [unary], preset, crf_device)[0]
        golden.same(
            f"crf hard labels {name}", posterior.argmax(0), expected[f"label_pred_{name}"], 0.995
        )
        if f"label_Qmax_{name}" in expected:
            wanted = expected[f"label_Qmax_{name}"]
            golden.close(f"crf hard labels {name} Q", posterior.max(0), wanted, **CLOSE)


def test_cams_with_a_powered_background(golden: Golden, crf_device: str | None) -> None:
    expected = golden.arrays("crf.npz")
    image = fill.image(*golden.case("crf", "crf"))
    cams = np.clip((image[..., :2].astype(np.float32) - 100) / 110, 0, 1).transpose(2, 0, 1)
    exponents = [int(key.split("_")[1][5:]) for key in expected if key.startswith("psa_alpha")]
    background = 1 - cams.max(0, keepdims=True)
    unaries = [
        crf.scores_unary(np.concatenate([background**exponent, cams])) for exponent in exponents
    ]
    posteriors = crf.infer(image, unaries, "psa", crf_device)
    for exponent, posterior in zip(exponents, posteriors, strict=True):
        golden.close(
            f"crf psa a={exponent} Q", posterior, expected[f"psa_alpha{exponent}_Q"], **CLOSE
        )
