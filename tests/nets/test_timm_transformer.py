"""timm's plain transformers as backbones: one feature map of patches, for images of any size."""

from typing import Any

import pytest
import timm
import torch

from wsss.errors import ConfigError
from wsss.methods.base import build_method
from wsss.nets.backbone import TimmBackbone
from wsss.nets.build import build_backbone
from wsss.nets.timm_transformer import TimmTransformer
from wsss.runs.run import Run
from wsss.settings import timm_models
from wsss.settings.resolve import validate_params
from wsss.storage.checkpoint import misfit

# Of DINO, DINOv2 (with registers too), CLIP, SigLIP, EVA and DeiT, with the side of their patches.
PATCHES = {
    "vit_small_patch16_224.dino": 16,
    "vit_small_patch14_dinov2.lvd142m": 14,
    "vit_small_patch14_reg4_dinov2.lvd142m": 14,
    "vit_small_patch16_dinov3.lvd1689m": 16,
    "vit_base_patch16_clip_224.openai": 16,
    "vit_large_patch14_clip_224.laion2b": 14,
    "vit_base_patch16_siglip_224.webli": 16,
    "eva02_tiny_patch14_224.mim_in22k": 14,
    "eva02_small_patch14_336.mim_in22k_ft_in1k": 14,
    "deit_tiny_distilled_patch16_224.fb_in1k": 16,
}


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3"])
def test_the_map_holds_the_patches_that_timm_computes(name: str) -> None:
    torch.manual_seed(0)
    net = build_backbone(name, 16).eval()
    assert isinstance(net, TimmTransformer)
    body: Any = net.body
    side = body.default_cfg["input_size"][-1]
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        (features,) = net(images)
        expected, _ = body.forward_intermediates(images, indices=1, output_fmt="NLC")
    patches = expected[:, net.special :].unflatten(1, (side // 16, side // 16)).permute(0, 3, 1, 2)
    assert features.shape[1:] == (net.channels[0], side // 16, side // 16)
    assert torch.allclose(features, patches, atol=1e-5)  # rounding of equal operations


@pytest.mark.parametrize("size", [(32, 32), (33, 50), (160, 64)])
def test_images_of_any_size_have_a_cell_for_each_whole_patch(size: tuple[int, int]) -> None:
    net = build_backbone("test_vit", 16)
    (features,) = net(torch.randn(1, 3, *size))
    assert features.shape[2:] == (size[0] // 16, size[1] // 16)


@pytest.mark.parametrize("name", PATCHES)
def test_published_weights_fit_and_the_stride_is_the_side_of_the_patches(name: str) -> None:
    with torch.device("meta"):  # shapes alone
        net = build_backbone(name, 16)
        published = timm.create_model(name).state_dict()
    expected = net.body.state_dict()  # type: ignore[union-attr]
    state = {key: value for key, value in net.adapt(published).items() if key in expected}
    assert misfit(expected, state, name) == ""
    assert net.strides == (PATCHES[name],) == (timm_models.patch_of(name),)


def settings(**classifier: object) -> Run:
    params = validate_params({"classifier": classifier})
    return Run.parse("shapes/cam/common/s0", params)


def test_a_transformer_of_timm_learns_labels_and_has_cams() -> None:
    run = settings(backbone="test_vit", stride=16)
    method = build_method(run, 3)
    net = method.build("classifier")
    images, labels = torch.randn(2, 3, 64, 48), torch.eye(3)[:2]
    batch: Any = {"image": images, "label": labels, "number": torch.arange(2)}
    sum(method.losses("classifier", {"classifier": net}, batch, 0).values()).backward()  # type: ignore[union-attr]
    assert [name for name, value in net.named_parameters() if value.grad is None] == []
    assert method.cam(net.eval(), images).shape == (2, 3, 4, 3)


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        ({"backbone": "vit_small_patch14_dinov2", "stride": 16}, "has stride 14: set stride to it"),
        ({"backbone": "resnet18", "stride": 14}, "14 is the stride of transformers alone"),
        ({"backbone": "resnet5O"}, "timm has no network 'resnet5O'; did you mean resnet50 or "),
        ({"backbone": "dinov2_vits16"}, "did you mean vit_base_patch14_dinov2 or vit_small_patch14_dino"),
        ({"backbone": "vit_small_patch16_224_dino"}, "timm calls vit_small_patch16_224_dino "
         "vit_small_patch16_224.dino now"),
        ({"backbone": "resnet50.a1_in1"}, "no weights 'a1_in1' of resnet50; did you mean a1_in1k or"),
    ],
)  # fmt: skip
def test_a_name_that_timm_does_not_have_is_answered_with_near_ones(
    classifier: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match="classifier") as error:
        settings(**classifier)
    assert message in str(error.value)


def test_networks_of_timm_and_their_weights_have_names_without_problem() -> None:
    names = [*timm.list_models(), *timm.list_pretrained()][::9]
    assert [name for name in names if timm_models.problem(name)] == []


def test_without_timm_no_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_models, "_sources", dict)
    timm_models.problem.cache_clear()
    assert timm_models.problem("resnet5O") == ""
    timm_models.problem.cache_clear()


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "mixer_s16_224"])
def test_a_network_for_images_of_one_size_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot be a backbone") as error:
        build_backbone(name, 32)
    assert "\n" not in str(error.value)
    assert isinstance(build_backbone("resnet18", 32), TimmBackbone)
