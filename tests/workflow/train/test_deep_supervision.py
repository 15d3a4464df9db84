from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import nn

from custom_networks.workflow import StackedDeepSupervisionLoss

# as in the bundles' train.json
LOSS = {"include_background": False, "to_onehot_y": True, "softmax": True, "smooth_nr": 1e-5, "smooth_dr": 1e-5}


def example(levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(2, levels, 3, 5, 4, 3, requires_grad=True)
    return logits, torch.randint(0, 3, (2, 1, 5, 4, 3))


@pytest.mark.parametrize(("levels", "weights"), [(1, [1]), (2, [1, 0]), (4, [4 / 7, 2 / 7, 1 / 7, 0])], ids=str)
def test_equal_to_a_weighted_sum(levels, weights):
    logits, label = example(levels)
    loss = DiceCELoss(**LOSS, batch=True)
    got = StackedDeepSupervisionLoss(loss)(logits, label)
    want = sum(weight * loss(logits[:, level], label) for level, weight in enumerate(weights))
    torch.testing.assert_close(got, want)
    for one, other in zip(*(torch.autograd.grad(value, logits) for value in (got, want)), strict=True):
        torch.testing.assert_close(one, other)


def test_the_weights_are_those_of_nnunet(oracle):
    """Each level's loss is one constant of its own, so that the sum shows the weights."""
    want = oracle("nnunet_losses")["ds_weights"].double()

    class First(nn.Module):
        def forward(self, logits, label):
            return logits.mean()

    levels = torch.eye(len(want), dtype=torch.float64).view(len(want), 1, len(want), 1, 1, 1, 1)
    got = [StackedDeepSupervisionLoss(First())(level, torch.zeros(1, 1, 1, 1, 1)) for level in levels]
    torch.testing.assert_close(torch.stack(got), want, rtol=0, atol=1e-7)


def test_an_output_without_levels_goes_to_the_loss_as_it_is():
    logits, label = example(1)
    loss = DiceCELoss(**LOSS, batch=True)
    assert torch.equal(StackedDeepSupervisionLoss(loss)(logits[:, 0], label), loss(logits[:, 0], label))


def test_the_loss_is_a_child_module():
    assert len(list(StackedDeepSupervisionLoss(nn.BCEWithLogitsLoss(pos_weight=torch.ones(1))).buffers())) == 1


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("name", ["dc_ce", "dice"])
def test_loss_without_background_is_that_of_nnunet_plus_one(oracle, name, batch):
    stored = oracle("nnunet_losses")
    logits = [x.clone().requires_grad_() for x in stored["logits"]]
    loss = {"dc_ce": DiceCELoss, "dice": DiceLoss}[name](**LOSS, batch=batch)
    values = [loss(x, y.long()) for x, y in zip(logits, stored["targets"], strict=True)]
    torch.testing.assert_close(
        values[0].detach(), torch.as_tensor(stored[f"{name}_batch{batch}"]) + 1, rtol=1e-5, atol=1e-5
    )
    weights = [float(w) for w in stored["ds_weights"]]
    total = sum(w * v for w, v in zip(weights, values, strict=True))
    want = torch.as_tensor(stored[f"ds_{name}_batch{batch}"]) + sum(weights)
    torch.testing.assert_close(total.detach(), want, rtol=1e-5, atol=1e-5)
    total.backward()
    for x, gradient in zip(logits, stored[f"ds_{name}_batch{batch}_grad"], strict=False):
        torch.testing.assert_close(x.grad, gradient, rtol=1e-4, atol=1e-7)
