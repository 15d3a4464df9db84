from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.nets import AttentionUnet
from custom_networks.workflow import windows_that_fit
from custom_networks.workflow.infer.windows import grow_window
from custom_networks.workflow.memory import bill as memory
from custom_networks.workflow.memory import fitting
from custom_networks.workflow.memory.bill import (
    available_bytes,
    cached_bytes,
    format_bytes,
    inference_bill,
    parse_bytes,
    training_bill,
    training_bytes,
)
from custom_networks.workflow.memory.fake_run import peak_bytes

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "size"), [("8GB", 8 * 10**9), ("512 MiB", 2**29), ("1.5gib", 3 * 2**29), ("100", 100), ("2kb", 2000)]
)
def test_sizes_in_words(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "8 gigabytes", "0"])
def test_other_words_are_refused(text):
    with pytest.raises(ValueError, match="such as 8GB"):
        parse_bytes(text)


@pytest.mark.parametrize(("size", "text"), [(8.59e9, "8.6 GB"), (30e9, "30 GB"), (35e6, "35 MB"), (1500, "2 kB")])
def test_sizes_for_people(size, text):
    assert format_bytes(size) == text


def test_a_pass_without_gradients_frees_what_the_next_layer_has_taken():
    net = nn.Sequential(*[nn.Tanh() for _ in range(5)])
    voxels = 8 * 8 * 8
    assert peak_bytes(net, (1, 1, 8, 8, 8), training=False, amp=False, device=CPU) == 3 * voxels * 4


def test_training_keeps_what_the_gradients_need():
    class Net(nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.depth = depth

        def forward(self, x):
            x = x * self.scale
            for _ in range(self.depth):
                x = x.tanh()
            return x

    shape = (2, 3, 8, 8, 8)
    peaks = [peak_bytes(Net(depth), shape, training=True, amp=False, device=CPU) for depth in (8, 20)]
    assert peaks[1] - peaks[0] == 12 * 2 * 3 * 512 * 4


def test_the_network_stays_as_it_was():
    net = AttentionUnet(3, 1, 3, features=(4, 8), dropout=0.5).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    assert training_bytes(net, in_channels=1, patch_size=(16, 16, 16), batch_size=2) > 0
    assert not net.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and type(p) is nn.Parameter for p in net.parameters())


class Twice(nn.Module):
    """One layer under two names, as MONAI's DynUNet has all of its own, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.tied = nn.Conv3d(1, 1, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)
        self.same = nn.ModuleList([self.one])
        self.tied.weight = self.one.weight

    def forward(self, x):
        return self.tied(self.same[0](x))


@pytest.mark.parametrize("training", [False, True])
def test_a_layer_with_two_names_stays_as_it_was(training):
    net, image = Twice(), torch.randn(1, 1, 8, 8, 8)
    before, output = dict(net.named_parameters()), net(image)
    assert peak_bytes(net, image.shape, training=training, amp=False, device=CPU) > 0
    assert all(own is before[name] for name, own in net.named_parameters())
    assert net.tied.weight is net.one.weight
    assert torch.equal(net(image), output)


def test_mixed_precision_halves_the_activations(monkeypatch):
    monkeypatch.setattr("custom_networks.workflow.infer.inferers.has_bfloat16", lambda device: True)
    net = AttentionUnet(3, 1, 3, features=(8, 16))
    full, half = (
        training_bytes(net, in_channels=1, patch_size=(64, 64, 64), batch_size=2, amp=amp) for amp in (False, True)
    )
    assert 0.45 < half / full < 0.75


def test_a_thin_patch_is_billed_in_float32(monkeypatch):
    monkeypatch.setattr("custom_networks.workflow.infer.inferers.has_bfloat16", lambda device: True)
    net, sizes = AttentionUnet(3, 1, 3, features=(8, 16)), {"in_channels": 1, "patch_size": (4, 64, 64)}
    assert training_bytes(net, batch_size=2, amp=True, **sizes) == training_bytes(net, batch_size=2, amp=False, **sizes)
    full, half = (inference_bill(net, (4, 64, 64), out_channels=3, amp=amp, **sizes) for amp in (False, True))
    assert full == half


def test_the_optimizer_keeps_two_moments():
    net = nn.Conv3d(4, 8, 3, padding=1)
    bill = training_bill(net, in_channels=4, patch_size=(8, 8, 8), batch_size=1)
    assert bill["optimizer"] == 2 * 4 * (4 * 8 * 27 + 8)


def test_a_network_that_reads_values_is_refused():
    class Reads(nn.Module):
        def forward(self, x):
            return x * float(x.max())

    with pytest.raises(RuntimeError):
        peak_bytes(Reads(), (1, 1, 4, 4, 4), training=False, amp=False, device=CPU)


def test_many_classes_cost_what_low_memory_saves():
    net = nn.Conv3d(1, 16, 1)
    sizes = {"in_channels": 1, "out_channels": 16, "patch_size": (96, 96, 96)}
    normal = inference_bill(net, (512,) * 3, **sizes)
    low = inference_bill(net, (512,) * 3, low_memory=True, **sizes)
    resampled = inference_bill(net, (512,) * 3, low_memory=True, original_shape=(512,) * 3, **sizes)
    assert normal["logits"] == 16 * 512**3 * 4
    assert sum(normal.values()) > 25e9
    assert sum(low.values()) < 4e9
    assert sum(low.values()) < sum(resampled.values()) < 6e9


def test_several_windows_cost_their_network_and_logits():
    net = nn.Conv3d(1, 8, 1)
    sizes = {"in_channels": 1, "out_channels": 8, "patch_size": (32, 32, 32), "low_memory": True}
    one, four = (inference_bill(net, (128,) * 3, sw_batch_size=n, **sizes) for n in (1, 4))
    assert "network on one window" in one
    assert one["logits of a slab"] == four["logits of a slab"]
    assert four["network on 4 windows"] == pytest.approx(4 * one["network on one window"], rel=0.01)


def test_a_local_network_is_billed_with_its_larger_window():
    sizes = {"in_channels": 1, "out_channels": 8, "patch_size": (32, 32, 32), "low_memory": True}
    net = AttentionUnet(3, 1, 8, features=(4, 8), attention=(), norm="batch")
    one, eight = (inference_bill(net, (128,) * 3, sw_batch_size=n, **sizes) for n in (1, 8))
    grown = grow_window((32,) * 3, (128,) * 3, net.size_divisor, 8)
    # the slab is as thick as the window
    assert eight["logits of a slab"] == max(grown) // 32 * one["logits of a slab"]
    assert eight["network on one window"] > 6 * one["network on one window"]


@pytest.mark.parametrize(("free", "windows"), [(0, 1), (41 * 2**20, 5), (2**40, 64)])
def test_as_many_windows_as_half_of_the_memory_holds(monkeypatch, free, windows):
    monkeypatch.setattr(fitting, "available_bytes", lambda device: free)
    sizes = {"device": "cpu", "in_channels": 1, "patch_size": (64, 64, 64), "amp": False}
    # an input and an output, each once more for the convolution: 4 MiB per window
    net = nn.Conv3d(1, 1, 1)
    assert windows_that_fit(sw_batch_size=None, network=net, **sizes) == windows
    assert windows_that_fit(sw_batch_size=3, network=net, **sizes) == 3


def test_a_network_that_reads_values_gets_one_window():
    class Reads(nn.Module):
        def forward(self, x):
            return x * float(x.max())

    sizes = {"device": "cpu", "in_channels": 1, "patch_size": (64, 64, 64), "amp": False}
    assert windows_that_fit(sw_batch_size=None, network=Reads(), **sizes) == 1


def test_comparing_costs_more_than_writing():
    net = nn.Conv3d(1, 4, 1)
    sizes = {"in_channels": 1, "out_channels": 4, "patch_size": (32, 32, 32)}
    assert sum(inference_bill(net, (128,) * 3, one_hot=True, **sizes).values()) > sum(
        inference_bill(net, (128,) * 3, **sizes).values()
    )


def test_the_cache_holds_its_share_of_images_and_labels():
    assert cached_bytes([(10, 10, 10)] * 3, [(5, 5, 5)] * 2, in_channels=2, cache_rate=0.5) == (1000 + 125) * 3 * 4


def test_a_control_group_limits_what_is_there(monkeypatch):
    assert available_bytes(CPU) > 2**20
    numbers = {"/sys/fs/cgroup/memory.max": 3000, "/sys/fs/cgroup/memory.current": 1000}
    monkeypatch.setattr(memory, "_number_in", numbers.get)
    assert available_bytes(CPU) == 2000


def test_convolutions_on_the_cpu_copy_their_tensors():
    net = nn.Conv3d(4, 4, 1, bias=False)
    copies = peak_bytes(net, (1, 4, 16, 16, 16), training=False, amp=False, device=CPU)
    assert copies == 2 * (4 * 4 * 4 + 2 * 4 * 16**3 * 4)
