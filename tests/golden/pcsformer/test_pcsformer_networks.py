"""Conformer-S with the heads of PC and SP: every stage, logits, attention, maps, features."""

import pytest
import torch
from conformers import EXACT, conformer, sampled, statistics
from golden import Golden
from pictures import normalised
from torch import Tensor, nn

from wsss.methods.pcsformer.network import CONFORMER_LAYOUT, ConformerNet
from wsss.nets.conformer import PUBLISHED, SHAPES, Conformer
from wsss.storage import checkpoint


class Watched:
    """What the stages of a network give while it looks at images."""

    def __init__(self, net: ConformerNet) -> None:
        self.maps: list[Tensor] = []
        self.tokens: list[Tensor] = []
        backbone = net.backbone
        self.hooks = [
            backbone.conv_1.register_forward_hook(lambda *seen: self.maps.append(seen[2][0])),
            backbone.trans_1.register_forward_hook(lambda *seen: self.tokens.append(seen[2][0])),
        ]
        for stage in backbone.stages.values():
            self.hooks.append(stage.register_forward_hook(self._keep))

    def _keep(self, _: nn.Module, __: object, seen: tuple[Tensor, Tensor, Tensor]) -> None:
        self.maps.append(seen[0])
        self.tokens.append(seen[1])


@torch.inference_mode()
def test_conformer_of_pc(golden: Golden) -> None:
    expected, net = golden.arrays("pc_forward.npz"), conformer(golden, "pc")
    for case, picture in golden.case("forward").items():
        watched = Watched(net)
        seen = net.encode(normalised(net, [picture]), attention=True)
        for name, found in (("x", watched.maps), ("xt", watched.tokens)):
            shapes, samples = expected[f"{case}_{name}_shapes"], expected[f"{case}_{name}_sample"]
            golden.same(f"pc {case} {name} shapes", [list(one.shape) for one in found], shapes)
            for number, one in enumerate(found):
                where = f"pc {case} {name} stage {number + 1}"
                kept = sampled(one, samples.shape[1])
                golden.close(f"{where} sample", kept, samples[number], **EXACT)
                wanted = expected[f"{case}_{name}_stats"][number]
                golden.close(f"{where} statistics", statistics(one), wanted, **EXACT)
        for hook in watched.hooks:
            hook.remove()
        conv, token = net.branches(seen)
        found = {
            "logits_conv": conv, "logits_trans": token, "feature": seen.maps.mean((2, 3))[0],
            "cls_token_normed": net.class_token(seen)[0], "attn_sum": seen.attention[0],
        }  # fmt: skip
        found |= {
            f"cam_{kind}": net.maps(seen, kind)
            for kind in ("transcam", "convcam", "clsattn", "attnagg")
        }
        for name, values in found.items():
            wanted = expected[f"{case}_{name}"]
            golden.close(f"pc {case} {name}", values.reshape(wanted.shape), wanted, **EXACT)


@torch.inference_mode()
def test_constants_of_norms(golden: Golden) -> None:
    expected, net = golden.arrays("pc_eps.npz"), conformer(golden, "pc", "conformer_s_eps")
    for case, picture in golden.case("forward").items():
        seen = net.encode(normalised(net, [picture]), attention=True)
        conv, token = net.branches(seen)
        found = {"logits_conv": conv, "logits_trans": token, "cam_transcam": net.maps(seen)}
        for name, values in found.items():
            golden.close(f"eps {case} {name}", values, expected[f"{case}_{name}"], **EXACT)


@torch.inference_mode()
def test_conformer_of_sp(golden: Golden) -> None:
    expected, net = golden.arrays("sp_forward.npz"), conformer(golden, "sp")
    for case, picture in golden.case("forward").items():
        images = normalised(net, [picture])
        seen = net.encode(images, attention=True)
        conv, token = net.branches(seen)
        own = net.cluster_branches(seen)
        found = {
            "logits_conv": conv, "logits_trans": token, "logits_conv_200": own[0],
            "logits_trans_200": own[1], "feature": net.features(images), "cam_transcam": net.maps(seen),
        }  # fmt: skip
        for name, values in found.items():
            golden.close(f"sp {case} {name}", values, expected[f"{case}_{name}"], **EXACT)


@pytest.mark.slow
def test_initial_weights_fill_the_backbone(golden: Golden) -> None:
    net = Conformer(SHAPES["conformer_small_patch16"])
    for wrapper in ("", "model"):
        path = golden.checkpoint("conformer_s_imagenet", wrapper=wrapper)
        checkpoint.adopt(net, path, PUBLISHED)
    shared = checkpoint.load_foreign(path)["conv_trans_7.trans_block.attn.qkv.weight"]
    assert torch.equal(net.stages["7"].trans_block.attn.qkv.weight, shared)


def test_networks_have_the_published_number_of_weights(golden: Golden) -> None:
    for stage in ("pc", "sp"):
        shapes = golden.json(f"manifest_conformer_s_{stage}.json")
        wanted = {k: v for k, v in shapes.items() if "running" not in k and "num_batches" not in k}
        found = dict(conformer(golden, stage).named_parameters())
        renamed = checkpoint.rename(
            {key: torch.empty(shape) for key, shape in wanted.items()}, CONFORMER_LAYOUT.table
        )
        assert {k: v.shape for k, v in renamed.items()} == {k: v.shape for k, v in found.items()}
