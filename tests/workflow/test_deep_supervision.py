from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from custom_networks.workflow import StackedDeepSupervisionLoss

# as in the bundles' train.json
LOSS = {"include_background": False, "to_onehot_y": True, "softmax": True, "smooth_nr": 1e-5, "smooth_dr": 1e-5}


def example(levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(2, levels, 3, 5, 4, 3, requires_grad=True)
    return logits, torch.randint(0, 3, (2, 1, 5, 4, 3))


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_equal_to_a_weighted_sum(levels):
    logits, label = example(levels)
    loss = DiceCELoss(**LOSS, batch=True)
    got = StackedDeepSupervisionLoss(loss)(logits, label)
    want = sum(loss(logits[:, level], label) / 2**level for level in range(levels))
    torch.testing.assert_close(got, want)
    for one, other in zip(*(torch.autograd.grad(value, logits) for value in (got, want)), strict=True):
        torch.testing.assert_close(one, other)
        assert (one.abs().sum(dim=(0, 2, 3, 4, 5)) > 0).all()


def test_an_output_without_levels_goes_to_the_loss_as_it_is():
    logits, label = example(1)
    loss = DiceCELoss(**LOSS, batch=True)
    assert torch.equal(StackedDeepSupervisionLoss(loss)(logits[:, 0], label), loss(logits[:, 0], label))


def test_the_loss_is_a_child_module():
    assert len(list(StackedDeepSupervisionLoss(nn.BCEWithLogitsLoss(pos_weight=torch.ones(1))).buffers())) == 1


@pytest.mark.parametrize("batch", [True, False])
def test_dice_ce_without_background_is_the_loss_of_nnunet_plus_one(oracle, batch):
    stored = oracle("nnunet_losses")
    logits = [x.clone().requires_grad_() for x in stored["logits"]]
    loss = DiceCELoss(**LOSS, batch=batch)
    values = [loss(x, y.long()) for x, y in zip(logits, stored["targets"], strict=True)]
    torch.testing.assert_close(
        values[0].detach(), torch.as_tensor(stored[f"dc_ce_batch{batch}"]) + 1, rtol=1e-5, atol=1e-5
    )
    weights = [float(w) for w in stored["ds_weights"]]
    total = sum(w * v for w, v in zip(weights, values, strict=True))
    want = torch.as_tensor(stored[f"ds_dc_ce_batch{batch}"]) + sum(weights)
    torch.testing.assert_close(total.detach(), want, rtol=1e-5, atol=1e-5)
    total.backward()
    for x, gradient in zip(logits, stored[f"ds_dc_ce_batch{batch}_grad"], strict=False):
        torch.testing.assert_close(x.grad, gradient, rtol=1e-4, atol=1e-7)
