"""The influence of frequencies, measured over batches and rounds with quotas."""

import pytest
import torch
from golden import Golden
from pictures import normalised
from transformers import build, labels_of, thinned

from wsss.methods.pcss import influence
from wsss.methods.pcss.influence import Influence, needed
from wsss.methods.pcss.method import present_losses
from wsss.methods.pcss.spectrum import block_sets

CLOSE = {"rtol": 1e-4, "absolute": 1e-4}
MASK = {"rtol": 1e-3, "absolute": 1e-3}


MOST = 24  # sets of blocks that are left out, one look each; where there are more, some are tried


@pytest.mark.slow
@pytest.mark.parametrize("name", ["96", "224"])
@torch.no_grad()
def test_influence(golden: Golden, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected, case = golden.arrays(f"fim_{name}.npz"), golden.case("fim", name)
    _, net = build(golden, "pcss")
    side, count = case["size"], case["size"] // net.backbone.shape.patch
    known = Influence(net.classes, count, side)
    sets = block_sets(count)
    tried = sets[:: -(-len(sets) // MOST)]
    monkeypatch.setattr(influence, "block_sets", lambda count: tried)
    rows, columns = zip(*(block for blocks in tried for block in blocks), strict=True)
    for number, (_, parts) in enumerate(golden.json("fim_inputs.json")[f"rounds_{name}"]):
        need = torch.full((net.classes,), float(case["quota"]))
        batches = [
            {
                "image": normalised(net, [(side, side, seed) for seed in seeds]),
                "label": labels_of(labels, net.classes),
            }
            for seeds, labels in parts
        ]
        left = need.clone()
        for at, batch in enumerate(batches):
            left -= needed(batch["label"], left).sum(0)
            key = f"r{number}/remaining_after_batch{at}"
            golden.same(f"fim {name} {key}", left, expected[key])
            done = f"r{number}/done_after_batch{at}"
            golden.same(f"fim {name} {done}", int(not left.any()), expected[done])
        losses = influence.measure(present_losses(net), batches, need, count, 64)
        matrix = expected[f"r{number}/loss_matrix"]
        some = matrix[:, rows, columns]
        golden.close(f"fim {name} round {number} losses", losses[:, rows, columns], some, **CLOSE)
        known.update(torch.from_numpy(matrix))
        record = expected[f"r{number}/max_loss"]
        golden.close(f"fim {name} round {number} record", known.record, record, **CLOSE)
        mask = known.mask()
        sub = expected[f"r{number}/mask_sub"]
        golden.close(f"fim {name} round {number} mask", thinned(mask, sub), sub, **MASK)
        ends = {"mask_min": mask.amin((1, 2)), "mask_max": mask.amax((1, 2))}
        for key, measured in ends.items():
            golden.close(
                f"fim {name} round {number} {key}", measured, expected[f"r{number}/{key}"], **MASK
            )
