"""The bill of a training on a GPU, which need not be there, beside torch's own accounting of tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn import functional as F

from custom_networks import nets
from custom_networks.adapt.network import step_bytes
from custom_networks.workflow.memory.bill import KERNELS, training_bill
from custom_networks.workflow.memory.fake_run import peak_bytes

GPU = torch.device("cuda")
SIZE, BATCH = (32, 32, 32), 2
NETWORKS = {
    "AttentionUnet": lambda: nets.AttentionUnet(3, 1, 3, **nets.AttentionUnet.scaled_arguments(3, {})),
    "MbtfeUnet": lambda: nets.MbtfeUnet(3, 1, 3, features=(16, 32, 64), deep_supervision=True),
    "TransUnet": lambda: nets.TransUnet(
        3, 1, 3, **nets.TransUnet.scaled_arguments(3, {"root_level": 0}) | {"root_level": 0, "num_layers": 3}
    ),
    "MedicalTransformer": lambda: nets.MedicalTransformer(
        3, 1, 3, **nets.MedicalTransformer.scaled_arguments(3, {}) | {"window_size": 16, "num_units": (1, 1, 1)}
    ),
    "AttentionClassifier": lambda: nets.AttentionClassifier(3, 1, 3, attention_module="cbam"),
}


QUICK = ("AttentionUnet", "AttentionClassifier")


def peak_of_torch(make, classifies):
    """Return the peak of two steps of AdamW in bfloat16 as torch's tracker counts it, and its moments by themselves."""
    with FakeTensorMode():
        network = make().train()
        optimizer, tracker = torch.optim.AdamW(network.parameters(), foreach=False), MemTracker()
        tracker.track_external(network, optimizer)
        with tracker:
            for step in range(2):  # the first makes the moments
                if step:
                    tracker.reset_mod_stats()
                image, label = torch.empty(BATCH, 1, *SIZE), torch.zeros(BATCH, *(() if classifies else SIZE)).long()
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = network(image)
                levels = logits.float().unbind(1) if logits.dim() > image.dim() else (logits.float(),)
                loss = torch.stack([F.cross_entropy(level, label) for level in levels]).sum()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        (peak,) = tracker.get_tracker_snapshot("peak").values()
    return peak["Total"]


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS],
)
def test_the_bill_is_within_30_percent_of_torch(name):
    make, classifies = NETWORKS[name], name == "AttentionClassifier"
    config = {"in_channels": 1, "amp": True}
    tensors = step_bytes(make(), config, SIZE, BATCH, GPU) - KERNELS
    assert tensors == pytest.approx(peak_of_torch(make, classifies), rel=0.3)


def test_every_part_is_in_the_bill():
    net = nn.Conv3d(1, 8, 3, padding=1, bias=False)
    bill = training_bill(net, in_channels=1, patch_size=SIZE, batch_size=BATCH, device=GPU)
    weights = 4 * 8 * 27
    assert bill["optimizer"] == 2 * weights
    assert bill["batch"] == 2 * BATCH * 32**3 * 4
    # weights, their gradient and their copy in half precision beside maps of 8 channels
    maps = BATCH * 8 * 32**3
    assert bill["parameters, gradients and activations"] > 2.5 * weights + maps * 2


@pytest.mark.parametrize("checkpointing", [False, True])
def test_precisions_are_those_of_cuda(checkpointing):
    """Softmax and group norm in float32, resizing in half precision; what is computed again is computed alike."""

    class Net(nn.Module):
        def forward(self, x):
            seen.append([y.dtype for y in (F.softmax(x, 1), F.group_norm(x, 2), F.interpolate(x, scale_factor=2.0))])
            return self.scale * x

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.net = nn.Conv3d(1, 4, 1), Net()

        def forward(self, x):
            x = self.first(x)
            return torch.utils.checkpoint.checkpoint(self.net, x, use_reentrant=False) if checkpointing else self.net(x)

    seen: list = []
    peak_bytes(Whole(), (1, 1, 8, 8, 8), training=True, amp=True, device=GPU)
    assert seen == [[torch.float32, torch.float32, torch.bfloat16]] * (1 + checkpointing)


def test_half_precision_is_billed_for_every_gpu(monkeypatch):
    """Whatever the processor of this machine computes in."""
    sizes = {"in_channels": 1, "patch_size": (64, 64, 64), "batch_size": 2}
    bills = []
    for native in (True, False):
        monkeypatch.setattr("custom_networks.workflow.infer.inferers.has_bfloat16", lambda device, own=native: own)
        net = nets.AttentionUnet(3, 1, 3, features=(8, 16))
        bills.append([training_bill(net, amp=amp, device=GPU, **sizes) for amp in (True, False)])
    assert bills[0] == bills[1]
    half, full = (sum(bill.values()) for bill in bills[0])
    assert 0.45 < half / full < 0.75
