"""Networks for one patch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.adapt.network import build
from custom_networks.compare.entries import find_entries
from custom_networks.compare.fits import common_patch, fit
from custom_networks.compare.padded import Padded

PROFILE = {
    "in_channels": 1,
    "label_names": ["background", "one", "two"],
    "spacing": [1.0, 1.0, 1.0],
    "patch_size": [24, 28, 20],
    "batch_size": 1,
}
FLAT = {**PROFILE, "spacing": [1.5, 1.5, 10.0], "patch_size": [48, 40, 9]}


def test_the_patch_is_what_all_networks_divide():
    entries = find_entries(["attention_unet", "mbtfe"], alone=True)
    assert common_patch(entries[:1], PROFILE) == [24, 28, 20]
    large = {**PROFILE, "patch_size": [52, 52, 84]}
    assert common_patch(entries[:1], large) == [52, 52, 84]
    assert common_patch(entries, large) == [48, 48, 80]
    assert common_patch(find_entries(["monai:DynUNet", "monai:SegResNet"], alone=True), PROFILE) == [24, 28, 20]


@pytest.mark.parametrize("profile", [PROFILE, FLAT], ids=["cube", "flat"])
@pytest.mark.parametrize("name", ["attention_unet", "mbtfe:plain", "monai:DynUNet", "monai:SegResNet", "monai:UNet"])
def test_a_network_gives_logits_on_the_patch(name, profile):
    entries = find_entries([name, "transunet:plain"], alone=True)
    patch = common_patch(entries, profile)
    own = fit(entries[:1], {**profile, "patch_size": patch}, patch)[0]
    network = build(own.entry.bundle, {**profile, **own.knobs}).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, *patch)).shape == (1, 3, *patch)
    assert own.parameters == sum(p.numel() for p in network.parameters())
    assert own.macs > 0
    assert own.step_bytes > 0


def test_a_network_of_others_is_padded_to_what_it_takes():
    own = fit(find_entries(["monai:SegResNet", "monai:DynUNet"], alone=True), PROFILE, [24, 28, 20])
    assert [one.divisor for one in own] == [(8, 8, 8), ()] or own[1].divisor == (4, 4, 4)
    assert own[0].knobs["network_def"]["_target_"].endswith("Padded")


def test_a_twin_differs_by_its_attention_alone():
    entries = find_entries(["attention_unet"], alone=False)
    whole, plain, *wide = fit(entries, PROFILE, [24, 28, 20])
    assert plain.knobs == {**whole.knobs, "network_def#attention": []}
    assert plain.parameters < whole.parameters
    for own in wide:  # left out where a step of the width costs more than the attention
        assert abs(own.macs - whole.macs) < abs(plain.macs - whole.macs)
        assert own.knobs["network_def#features"] > [16, 32, 64]


def test_networks_of_monai_have_the_widths_of_the_bundles():
    dynunet, segresnet = fit(find_entries(["monai:DynUNet", "monai:SegResNet"], alone=True), PROFILE, [24, 28, 24])
    assert dynunet.knobs["network_def"]["filters"] == [16, 32, 64, 128]
    assert segresnet.knobs["network_def"]["network"]["init_filters"] == 16


def test_on_a_gpu_networks_are_as_deep_and_wide_as_adapt_makes_them():
    names = ["attention_unet", "attention_unet:plain", "monai:DynUNet", "monai:SegResNet"]
    patch = [64, 64, 64]
    fits = fit(find_entries(names, alone=True), {**PROFILE, "patch_size": patch}, patch, torch.device("cuda"))
    for own in fits[:2]:
        assert own.knobs["network_def#features"] == [32, 64, 128, 256, 320]
    assert fits[2].knobs["network_def"]["filters"] == [32, 64, 128, 256, 320]
    assert fits[2].knobs["network_def"]["strides"] == [[1, 1, 1]] + [[2, 2, 2]] * 4
    assert fits[3].knobs["network_def"]["init_filters"] == 32


def test_a_network_that_wants_more_is_named():
    entries = find_entries(["monai:UNETR", "monai:SegResNet"], alone=True)
    with pytest.raises(ValueError, match=r"^monai:UNETR: .*img_size.* give file\.json#entry$"):
        fit(entries, PROFILE, [24, 28, 20])


class Halving(nn.Module):
    def forward(self, x):
        return nn.functional.interpolate(nn.functional.avg_pool3d(x, 4), scale_factor=4)


def test_padding_changes_nothing_where_the_size_fits():
    image = torch.rand(2, 1, 8, 4, 12)
    torch.testing.assert_close(Padded(Halving(), (4, 4, 4))(image), Halving()(image))


def test_padding_is_cut_off_again():
    """A network that adds one knows where the image was."""
    image = torch.rand(1, 2, 5, 8, 3)
    torch.testing.assert_close(Padded(nn.Identity(), (4, 4, 4))(image), image)
    seen = []
    network = nn.Module()
    network.forward = lambda x: seen.append(x) or x + 1
    torch.testing.assert_close(Padded(network, (4, 4, 4))(image), image + 1)
    assert seen[0].shape == (1, 2, 8, 8, 4)
    torch.testing.assert_close(seen[0][:, :, 1:6, :, :3], image)
    assert seen[0].sum() == pytest.approx(float(image.sum()), rel=1e-5)


def test_deep_supervision_keeps_its_levels():
    class Levels(nn.Module):
        def forward(self, x):
            return torch.stack([x, 2 * x], 1)

    image = torch.rand(1, 3, 5, 6, 7)
    assert Padded(Levels(), (4, 4, 4))(image).shape == (1, 2, 3, 5, 6, 7)
