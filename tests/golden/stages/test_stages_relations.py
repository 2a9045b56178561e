"""IRN's training losses, as the stage computes them."""

import numpy as np
import torch
from golden import Golden
from pictures import label_map, normalised

from wsss.nets.irn import IRN, IRN_LAYOUT
from wsss.refine.affinity import WEIGHTS
from wsss.settings import AffinityParams
from wsss.stages.affinity import Relations
from wsss.storage import checkpoint

PARAMS = AffinityParams(
    kind="irn", backbone="resnet50_irn", weights="imagenet", stride=16, radius=10, margin=True
)


def test_irn_losses_and_gradients(golden: Golden) -> None:
    expected = golden.arrays("irn_net.npz")
    net = IRN(PARAMS.backbone, PARAMS.stride, PARAMS.irn)
    checkpoint.adopt(net, golden.checkpoint("irn_resnet50_irn"), IRN_LAYOUT)
    net.train().backbone.eval()
    side, seed = golden.case("irn", "crop"), golden.case("irn", "irn")[2]
    cases = [(side, side, seed + 20), (side, side, seed + 21)]
    masks = np.stack([label_map(side, side, seed + 30), label_map(side, side, seed + 31)])
    batch = {"image": normalised(net, cases), "mask": torch.from_numpy(masks)}
    terms = Relations(net, PARAMS)(batch, 0)
    total = torch.stack(list(terms.values())).sum()
    means = {name: terms[name].item() / WEIGHTS[name] for name in WEIGHTS}
    measured = {
        "bg_pos_aff": means["background"],
        "fg_pos_aff": means["foreground"],
        "pos_aff": (means["background"] + means["foreground"]) / 2,
        "neg_aff": means["unlike"],
        "dp_fg": terms["moves"].item() * 2,
        "dp_bg": terms["rests"].item() * 2,
        "total": total.item(),
    }
    losses = [measured[str(name)] for name in expected["loss_names"]]
    golden.close("irn losses", losses, expected["losses"], rtol=1e-4)
    weights = dict(net.named_parameters())
    ours = checkpoint.rename(
        {str(name): torch.tensor(at) for at, name in enumerate(expected["grad_names"])},
        IRN_LAYOUT.table,
    )
    gradients = torch.autograd.grad(total, [weights[name] for name in ours])
    norms = [gradient.norm().item() for gradient in gradients]
    wanted = expected["grad_l2"][[int(at) for at in ours.values()]]
    golden.close("irn gradients", norms, wanted, rtol=1e-3)
