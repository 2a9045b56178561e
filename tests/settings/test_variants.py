"""Variants of methods: their names, their settings, and the runs beside their base's."""

from typing import Any

import pytest

from wsss.errors import ConfigError
from wsss.runs.artifacts import stage_record
from wsss.runs.run import Run, planned_runs, shard_path
from wsss.runs.sources import artifact
from wsss.settings import Params
from wsss.settings.history import history
from wsss.settings.layers import Layer
from wsss.settings.resolve import resolve_settings, validate_params

GENTLE = {"method": "crt", "set": {"walk": {"damp": False}}}
BETAS = {"method": "cam", "grid": {"walk.beta": [4, 6.5], "walk.damp": [True]}}


def params(variants: dict[str, Any], **others: object) -> Params:
    return validate_params({"methods": ["cam", "crt"], "variants": variants, **others})


def test_a_variant_has_runs_beside_its_base() -> None:
    runs = [str(run) for run in planned_runs(params({"crt-gentle": GENTLE}, seeds=[0, 1]))]
    names = ("cam", "crt", "crt-gentle")
    assert runs == [f"shapes/{name}/common/s{seed}" for name in names for seed in (0, 1)]


def test_a_variant_differs_from_its_base_in_its_changes_alone() -> None:
    chosen = params({"crt-gentle": GENTLE}, protocols=["common", "published"])
    for protocol in ("common", "published"):
        base, variant = (
            resolve_settings(chosen, "shapes", name, protocol) for name in ("crt", "crt-gentle")
        )
        assert base.walk.damp
        assert variant == base.model_copy(
            update={"walk": base.walk.model_copy(update={"damp": False})}
        )
    run = Run.parse("shapes/crt-gentle/published/s0", chosen)
    assert run.title == f"{Run.parse('shapes/crt/common/s0', chosen).title}: crt-gentle"
    assert run.code("walk") == Run.parse("shapes/crt/common/s0", chosen).code("walk")


# What a variant of CAM changes, and the first stage that is its own.
FIRST_OF_ITS_OWN = [
    ({"classifier": {"train": {"lr": 0.5}}}, "classifier"),
    ({"cam": {"scales": [1.0]}}, "cam"),
    ({"calibration": {"images": 7}}, "calibrate-cam"),
    ({"affinity": {"confident": {"crf": "none"}}}, "confident"),
    ({"affinity": {"kind": "frozen"}}, "affinity"),
    ({"walk": {"beta": 4.5}}, "walk"),
    ({"pseudo": {"source": "cam"}}, "pseudo"),
    ({"pseudo": {"crf": "psa"}}, "pseudo"),
    ({"segmenter": {"train": {"lr": 0.5}}}, "segmenter"),
    ({"segmenter": {"test": {"scales": [0.25]}}}, "masks"),
    ({"segmenter": {"train": {"workers": 3}}}, None),
    ({"evaluation": {"seed_threshold": 0.5}}, None),
]


@pytest.mark.parametrize(("changes", "first"), FIRST_OF_ITS_OWN)
def test_a_variant_uses_its_bases_files_up_to_the_first_stage_that_differs(
    changes: dict[str, Any], first: str | None
) -> None:
    chosen = params({"mine": {"method": "cam", "set": changes}})
    base, variant = (Run.parse(f"shapes/{name}/common/s1", chosen) for name in ("cam", "mine"))
    assert base.shared == frozenset()
    computed = variant.computed
    assert computed == [stage for stage in variant.stages() if not stage.startswith("eval/")]
    own = computed[computed.index(first) :] if first else []
    assert [stage for stage in computed if stage not in variant.shared] == own
    for stage in computed:
        owner = variant if stage in own else base
        for path in (artifact(variant, stage), stage_record(variant, stage)):
            assert path.is_relative_to(owner.folder)
        assert shard_path(variant, stage, (1, 2)).is_relative_to(owner.folder)
    assert all(
        variant.path(f"eval/{what}.csv").is_relative_to(variant.folder) for what in variant.scored
    )


def test_overrides_of_the_base_reach_its_variants_and_give_way_to_them() -> None:
    overrides = {
        "base": {"method": "crt", "set": {"walk": {"damp": True, "beta": 3.0}}},
        "variant": {"method": "crt-gentle", "set": {"walk": {"log2_steps": 2}}},
    }
    chosen = params({"crt-gentle": GENTLE}, overrides=overrides)
    walk = resolve_settings(chosen, "shapes", "crt-gentle", "common").walk
    assert (walk.damp, walk.beta, walk.log2_steps) == (False, 3.0, 2)
    assert resolve_settings(chosen, "shapes", "crt", "common").walk.log2_steps != 2


def test_a_grid_is_one_variant_for_each_combination() -> None:
    chosen = params({"cam-beta": BETAS})
    methods = [run.method for run in planned_runs(chosen)]
    assert methods == ["cam", "cam-beta-4-true", "cam-beta-6.5-true", "crt"]
    walk = resolve_settings(chosen, "shapes", "cam-beta-6.5-true", "common").walk
    assert (walk.beta, walk.damp) == (6.5, True)


def test_a_variant_may_have_one_protocol_and_run_without_its_base() -> None:
    published = {"crt-gentle": {**GENTLE, "protocol": "published"}}
    chosen = params(published, protocols=["common", "published"], methods=["crt-gentle"])
    assert [str(run) for run in planned_runs(chosen)] == ["shapes/crt-gentle/published/s0"]
    assert not list(planned_runs(params({"crt-gentle": GENTLE}, methods=["cam"])))[1:]


def test_the_layer_of_a_variant_is_named() -> None:
    chosen = params({"crt-gentle": GENTLE})
    files = [Layer("mine.yaml", {"walk": {"damp": True}})]
    shown = history(files, chosen, ("shapes", "crt-gentle", "common"), "walk.damp")
    assert shown.splitlines()[-1].split() == ["false", "variants.crt-gentle"]
    network = history(
        files,
        params({"x": {"method": "crt", "set": {"classifier": {"train": {"epochs": 2}}}}}),
        ("shapes", "x", "common"),
        "networks.classifier.train.epochs",
    )
    assert network.splitlines()[-1].split() == ["2", "variants.x"]


@pytest.mark.parametrize(
    ("variants", "problem"),
    [
        ({"a": {"method": "ctr"}}, "variants.a.method: 'ctr' is not one of cam, "),
        ({"pcss": GENTLE}, "variants.pcss: this name is taken by a method"),
        ({"a/b": GENTLE}, "variants.a/b: use letters, digits"),
        (
            {"a": {"method": "cam", "set": {"wakl": {}}}},
            "variants.a: unknown section wakl; did you",
        ),
        ({"a": {"method": "cam", "grid": {"wakl.beta": [1]}}}, "variants.a: unknown section wakl"),
        (
            {"a": {"method": "cam", "set": {"walk": {"bta": 1}}}},
            "unknown key walk.bta; did you mean",
        ),
        ({"a": {"method": "cam", "grid": {"walk.bta": [1]}}}, "unknown key walk.bta; did you mean"),
        ({"a": {"method": "cam", "grid": {"walk.beta": []}}}, "grid.walk.beta: name at least one"),
        ({"a": {"methd": "cam"}}, "unknown key variants.a.methd; did you mean 'method'?"),
        (
            {"a": {"method": "cam", "grid": {"walk.beta": [1]}}, "a-1": GENTLE},
            "variants.a-1: two variants have this name",
        ),
        (
            {"a": {"method": "cam", "set": {"networks": {"pc": {}}}}},
            "networks.pc is not in the chain",
        ),
    ],
)
def test_what_is_wrong_with_a_variant_is_named(variants: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        params(variants)
    assert problem in str(error.value)
