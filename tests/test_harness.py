"""The harness must reject faults, among them two that public attention collections really have."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.blocks import AttentionGate
from tests import harness
from tests.harness import ATTENTION_MAP, AXIS_PERMUTATION, Case


class Sound(nn.Module):
    """Squeeze-and-excitation over all axes: every fault below changes one thing in it."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.excite = nn.Linear(4, 4)

    def gate(self, x):
        return self.excite(x.mean((2, 3, 4), keepdim=True).movedim(1, -1)).sigmoid().movedim(-1, 1)

    def forward(self, x):
        return F.dropout(x * self.gate(x), self.dropout, self.training)


class PoolsTwoOfThreeAxes(Sound):
    """Real fault: a 2D squeeze-and-excitation carried over to volumes with its mean over two axes."""

    def gate(self, x):
        return self.excite(x.mean((3, 4), keepdim=True).movedim(1, -1)).sigmoid().movedim(-1, 1)


class DropoutInEval(Sound):
    """Real fault: the functional dropout knows nothing of train and eval."""

    def forward(self, x):
        return F.dropout(super().forward(x), self.dropout)


class AttentionDropoutInEval(Sound):
    """Real fault: so does the dropout_p of the fused attention."""

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        y = F.scaled_dot_product_attention(tokens, tokens, tokens, dropout_p=self.dropout)
        return y.transpose(1, 2).reshape(x.shape) * self.gate(x)


class DropoutNever(Sound):
    def forward(self, x):
        return x * self.gate(x)


class InPlace(Sound):
    def forward(self, x):
        return x.mul_(self.gate(x.clone()))


class StoresItsMap(Sound):
    def forward(self, x):
        self.map = self.gate(x)
        return x * self.map


class AppendsToAList(Sound):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.maps = []

    def forward(self, x):
        self.maps.append(self.gate(x))
        return super().forward(x)


class CreatesAParameter(Sound):
    def forward(self, x):
        self.late = nn.Parameter(torch.zeros(1))
        return super().forward(x)


class CountsCalls(Sound):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class UnusedParameter(Sound):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.unused = nn.Linear(4, 4)


class DetachedGate(Sound):
    def forward(self, x):
        return x * self.gate(x).detach()


class MultipliedByZero(Sound):
    def forward(self, x):
        return x + 0 * super().forward(x)


class MixesTheBatch(Sound):
    def forward(self, x):
        return super().forward(x) * x.mean(0, keepdim=True)


class Overflows(Sound):
    def forward(self, x):
        return x * self.gate(x).exp() + x.exp()


class DividesByItsSpread(Sound):
    def forward(self, x):
        return super().forward(x) / x.std()


class HalvesTheGrid(Sound):
    def forward(self, x):
        return super().forward(x)[..., ::2]


class NeedsEvenAxes(Sound):
    def forward(self, x):
        y = F.max_pool3d(super().forward(x), 2)
        return F.interpolate(y, scale_factor=2.0)


class KeepsPlainTensors(Sound):
    """State that is neither parameter nor buffer is lost with the state dict."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.table = torch.randn(4, 1, 1, 1)

    def forward(self, x):
        return super().forward(x) * self.table


class BranchesOnSize(Sound):
    """The example's branch is baked into the exported graph."""

    def forward(self, x):
        y = super().forward(x)
        return y * 2 if x.shape[2] > 4 else y


class BranchesOnExport(Sound):
    def forward(self, x):
        y = super().forward(x)
        return y * 2 if torch.compiler.is_compiling() else y


class BranchesOnScript(Sound):
    def forward(self, x):
        y = x * self.gate(x)
        return y * 2 if torch.jit.is_scripting() else y


class StartsAtZero(Sound):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.gamma * super().forward(x)


class RandomInTraining(Sound):
    """Noise that no argument turns off."""

    def forward(self, x):
        y = super().forward(x)
        return y + torch.rand_like(y) if self.training else y


class IdleBias(Sound):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return super().forward(x) + 0 * self.bias.view(4, 1, 1, 1)


class OverflowsInHalfPrecision(Sound):
    """Finite to 3.4e38 in bfloat16, to 65504 in float16."""

    def forward(self, x):
        scale = (self.excite.weight * 0 + 1).sum() * 1e4
        return super().forward(x) * F.linear(scale.view(1, 1), scale.view(1, 1)).float() / scale**2


class HasAMap(Sound):
    def attention_map(self, x):
        return self.gate(x)


class MapIsOneSample(Sound):
    def attention_map(self, x):
        return self.gate(x)[:1]


class MapIsAlwaysTheSame(Sound):
    def attention_map(self, x):
        return torch.ones_like(self.gate(x))


class MapIsStored(Sound):
    def attention_map(self, x):
        self.last = self.gate(x)
        return self.last


def case_of(kind: type[nn.Module], *claims: str) -> Case:
    return replace(Case.of(kind.__name__, kind, kind, (4, 4, 6, 5), out_channels=4), claims=frozenset(claims))


@pytest.mark.parametrize("check", harness.ATTENTION_CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
def test_accepts_a_sound_module(check):
    check(case_of(Sound, AXIS_PERMUTATION))


@pytest.mark.parametrize(
    ("kind", "check", "claims"),
    [
        (HasAMap, harness.check_attention_map, [ATTENTION_MAP]),
        (PoolsTwoOfThreeAxes, harness.check_axis_permutation, []),
    ],
)
def test_accepts_what_is_said(kind, check, claims):
    check(case_of(kind, *claims))


FAULTS = [
    (DropoutInEval, harness.check_eval_repeatable, "eval is not repeatable"),
    (AttentionDropoutInEval, harness.check_eval_repeatable, "eval is not repeatable"),
    (DropoutNever, harness.check_eval_repeatable, "dropout does nothing"),
    (RandomInTraining, harness.check_eval_repeatable, "training without dropout is not repeatable"),
    (InPlace, harness.check_input_untouched, "changed its input in place"),
    (StoresItsMap, harness.check_stores_nothing, "stored something in .*map"),
    (AppendsToAList, harness.check_stores_nothing, "stored something in .*maps"),
    (CreatesAParameter, harness.check_stores_nothing, "stored something"),
    (CountsCalls, harness.check_stores_nothing, "changed calls in eval"),
    (UnusedParameter, harness.check_gradients, "unused.* gets no gradient"),
    (DetachedGate, harness.check_gradients, "excite.* gets no gradient"),
    (MultipliedByZero, harness.check_gradients, "excite.weight gets a zero gradient"),
    (IdleBias, harness.check_gradients, "^bias gets a zero gradient"),
    (MixesTheBatch, harness.check_batch, "a batch of two is not two batches of one"),
    (Overflows, harness.check_finite, "not finite on an input times 1e4"),
    (DividesByItsSpread, harness.check_finite, "not finite on a constant input"),
    (OverflowsInHalfPrecision, harness.check_finite, "not finite under torch.float16 autocast on its input"),
    (HalvesTheGrid, harness.check_shape, "output shape"),
    (NeedsEvenAxes, harness.check_shape, "output shape"),
    (KeepsPlainTensors, harness.check_round_trip, "the state dict changes the output"),
    (BranchesOnSize, harness.check_export, r"Constraints violated|Guard failed: x\.size\(\)\[2\] >= 5"),
    (BranchesOnScript, harness.check_script, "TorchScript differs"),
    (BranchesOnExport, harness.check_export, "torch.export differs"),
    (BranchesOnExport, harness.check_compile, "torch.compile differs"),
    (BranchesOnExport, harness.check_onnx, "ONNX differs"),
    (StartsAtZero, harness.check_contract, "the output at initialisation is zero"),
]


# What is claimed must be so, and what is not claimed must not.
FALSE_CLAIMS = [
    (PoolsTwoOfThreeAxes, harness.check_axis_permutation, [AXIS_PERMUTATION], "not equivariant to the permutation"),
    (Sound, harness.check_axis_permutation, [], "equivariant to every permutation of the axes; claim it"),
    (Sound, harness.check_attention_map, [ATTENTION_MAP], "no attention_map; add one, or say so"),
    (HasAMap, harness.check_attention_map, [], "there is an attention_map; claim it"),
    (MapIsOneSample, harness.check_attention_map, [ATTENTION_MAP], "not one map per sample"),
    (MapIsAlwaysTheSame, harness.check_attention_map, [ATTENTION_MAP], "the same for two samples"),
    (MapIsStored, harness.check_attention_map, [ATTENTION_MAP], "attention_map stored something"),
]


@pytest.mark.parametrize(
    ("kind", "check", "message"),
    FAULTS,
    ids=[f"{f[0].__name__}-{f[1].__name__.removeprefix('check_')}" for f in FAULTS],
)
def test_rejects(kind, check, message):
    with pytest.raises((AssertionError, torch._dynamo.exc.UserError), match=message):
        check(case_of(kind))


@pytest.mark.parametrize(
    ("kind", "check", "claims", "message"),
    FALSE_CLAIMS,
    ids=[f"{f[0].__name__}-{f[1].__name__.removeprefix('check_')}" for f in FALSE_CLAIMS],
)
def test_rejects_false_claims(kind, check, claims, message):
    with pytest.raises(AssertionError, match=message):
        check(case_of(kind, *claims))


class GateWithMore(AttentionGate):
    """A gate whose graph no network has."""


@pytest.mark.parametrize("kind", [GateWithMore, AttentionGate])
def test_rejects_a_block_that_its_network_does_not_hold(kind):
    def build() -> nn.Module:
        gate = kind(3, 8, 12)
        gate.more = nn.GELU()
        return gate

    with pytest.raises(AssertionError, match="AttentionUnet has no such block; leave out part_of"):
        harness.check_part_of(Case.of("gate", build, kind, (8, 4, 6, 5), out_channels=8, part_of="AttentionUnet"))
