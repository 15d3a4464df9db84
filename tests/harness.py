"""The battery that every attention module, block and network passes.

A :class:`tests.case.Case` knows how to build a module and what to feed it; a check is a function of a case that raises
``AssertionError``; those of exports are in ``tests/exports.py``. ``ATTENTION_CASES`` lists everything in the registry,
so a new attention module gets the battery without new test code. ``NET_CASES`` and ``CLASSIFIER_CASES`` list the
networks by their lines in ``tests/small_nets.py``. Blocks bring their own.
"""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import re
from collections.abc import Callable, Iterable

import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from torch import Tensor, nn

from custom_networks import nets
from custom_networks.registry import ATTENTION
from tests import small_nets
from tests.case import ATTENTION_MAP, AXIS_PERMUTATION, Case, close
from tests.exports import check_compile, check_export, check_onnx, check_script

ATTENTION_CHANNELS = 16


def _attention_case(name: str, spatial_dims: int) -> Case:
    kind = ATTENTION[name]

    def build(**kwargs) -> nn.Module:
        return kind(spatial_dims, ATTENTION_CHANNELS, **kwargs)

    shape = (ATTENTION_CHANNELS, 4, 6, 5)[: spatial_dims + 1]
    return Case.of(f"{name}-{spatial_dims}d", build, kind, shape, out_channels=ATTENTION_CHANNELS)


def _small(kind: type[nn.Module], spatial_dims: int, arguments: dict[str, object]) -> Callable[..., nn.Module]:
    def build(**kwargs) -> nn.Module:
        return kind(spatial_dims, small_nets.IN_CHANNELS, small_nets.OUT_CHANNELS, **arguments | kwargs)

    return build


def net_case(name: str, spatial_dims: int, **more) -> Case:
    """Return the case of a network: its arguments in ``tests/small_nets.py``, and more."""
    kind = getattr(nets, name)
    build = _small(kind, spatial_dims, small_nets.SEGMENTERS[name] | more)
    shape = (small_nets.IN_CHANNELS, *small_nets.SIZE[:spatial_dims])
    rest = {"out_channels": small_nets.OUT_CHANNELS, "multiples": build().size_divisor}
    return Case.of(f"{name}-{spatial_dims}d", build, kind, shape, is_net=True, **rest)


def _classifier_case(name: str, spatial_dims: int) -> Case:
    kind = getattr(nets, name)
    build = _small(kind, spatial_dims, small_nets.CLASSIFIERS[name])
    size = (m + extra for m, extra in zip(build().min_size, (0, 3, 2), strict=False))
    rest = {"out_channels": small_nets.OUT_CHANNELS, "on_grid": False}
    return Case.of(f"{name}-{spatial_dims}d", build, kind, (small_nets.IN_CHANNELS, *size), is_net=True, **rest)


ATTENTION_CASES = [_attention_case(name, dims) for name, dims in itertools.product(ATTENTION, (2, 3))]
NET_CASES = [net_case(name, dims) for name, dims in itertools.product(small_nets.SEGMENTERS, (2, 3))]
CLASSIFIER_CASES = [_classifier_case(name, dims) for name, dims in itertools.product(small_nets.CLASSIFIERS, (2, 3))]


def _loss(output: Tensor) -> Tensor:
    return (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(7))).sum()


def _snapshot(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return what hangs on the module and its children: attribute -> identity of the value and of what it contains."""
    found = {}
    for prefix, child in module.named_modules():
        for name, value in vars(child).items():
            inside = value.values() if isinstance(value, dict) else value
            inside = inside if isinstance(value, (dict, list, set, tuple)) else ()
            found[f"{prefix}.{name}"] = (id(value), *map(id, inside))
    return found


# --- every module


def check_shape(case: Case) -> None:
    module = case.module()
    for grow in (0, 1):
        inputs = case.resized(grow).inputs()
        want = (2, case.out_channels, *(inputs[0].shape[2:] if case.on_grid else ()))
        got = tuple(module(*inputs).shape)
        assert got == want, f"output shape {got}, not {want}"


def check_input_untouched(case: Case) -> None:
    module, inputs = case.module(), case.inputs()
    before = [x.clone() for x in inputs]
    for training in (False, True):
        module.train(training)(*inputs)
        for x, y in zip(inputs, before, strict=True):
            assert torch.equal(x, y), "forward changed its input in place"


def check_stores_nothing(case: Case) -> None:
    module, inputs = case.module(), case.inputs()
    for training in (False, True):
        module.train(training)
        state = {k: v.clone() for k, v in module.state_dict().items()}
        before = _snapshot(module)
        module(*inputs)
        after = _snapshot(module)
        changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
        assert not changed, f"forward stored something in {changed}"
        assert module.state_dict().keys() == state.keys(), "forward created parameters or buffers"
        if not training:
            for key, value in module.state_dict().items():
                assert torch.equal(value, state[key]), f"forward changed {key} in eval"


def check_gradients(case: Case) -> None:
    for batch in (2, 1):
        module = case.module().train()
        inputs = [x.requires_grad_() for x in case.inputs(batch)]
        _loss(module(*inputs)).backward()
        named = list(module.named_parameters()) + [(f"input {i}", x) for i, x in enumerate(inputs)]
        for name, parameter in named:
            assert parameter.grad is not None, f"{name} gets no gradient"
            assert parameter.grad.isfinite().all(), f"{name} gets a gradient that is not finite"
            assert parameter.grad.any(), f"{name} gets a zero gradient"


def check_eval_repeatable(case: Case) -> None:
    """Ask for the same output twice: in eval at any dropout, in training without; and that dropout does something."""
    module, inputs = case.module(**({"dropout": 0.5} if case.takes_dropout else {})), case.inputs()
    assert torch.equal(module(*inputs), module(*inputs)), "eval is not repeatable"
    if case.takes_dropout:
        module.train()
        assert not torch.equal(module(*inputs), module(*inputs)), "dropout does nothing in training"
    module = case.module(**({"dropout": 0.0} if case.takes_dropout else {})).train()
    assert torch.equal(module(*inputs), module(*inputs)), "training without dropout is not repeatable"


def check_batch(case: Case) -> None:
    module, inputs = case.module(), case.inputs()
    ones = [module(*(x[i : i + 1] for x in inputs)) for i in range(2)]
    close(module(*inputs), torch.cat(ones), "a batch of two is not two batches of one", 1e-5)


def check_finite(case: Case) -> None:
    module, inputs = case.module(), case.inputs()
    hostile = {
        "its input": inputs,
        "a constant input": [torch.full_like(x, 3.0) for x in inputs],
        "an input of zeros": [torch.zeros_like(x) for x in inputs],
        "an input times 1e4": [x * 1e4 for x in inputs],
    }
    for what, values in hostile.items():
        assert module(*values).isfinite().all(), f"not finite on {what}"
        for dtype in (torch.bfloat16, torch.float16):
            if dtype == torch.float16 and what == "an input times 1e4":
                continue  # a convolution of it is beyond the largest number of float16, 65504
            with torch.autocast("cpu", dtype=dtype):
                assert module(*values).isfinite().all(), f"not finite under {dtype} autocast on {what}"


def check_round_trip(case: Case) -> None:
    module, inputs = case.module(), case.inputs()
    want = module(*inputs)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    loaded = case.build().eval()
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    for name, twin in {
        "deepcopy": copy.deepcopy(module),
        "pickle": pickle.loads(pickle.dumps(module)),
        "the state dict": loaded,
    }.items():
        assert torch.equal(twin(*inputs), want), f"{name} changes the output"


def check_metadata(case: Case) -> None:
    """Feed what MONAI's loader gives in training: a batch with the metadata of its samples."""
    module, inputs = case.module(), case.inputs()
    batch = [list_data_collate([MetaTensor(sample, affine=torch.eye(4)) for sample in x]) for x in inputs]
    for training in (False, True):
        module.train(training)
        torch.manual_seed(0)
        want = module(*inputs)
        torch.manual_seed(0)
        got = module(*batch)
        close(got.as_tensor() if isinstance(got, MetaTensor) else got, want, "metadata change the output")


# --- attention modules


def check_contract(case: Case) -> None:
    torch.manual_seed(0)
    assert case.build().eval()(*case.inputs()).any(), "the output at initialisation is zero"


def check_unit_and_odd_axes(case: Case) -> None:
    module = case.module()
    channels, *size = case.shapes[0]
    sizes = [tuple(1 if i == axis else s for i, s in enumerate(size)) for axis in range(len(size))]
    for shape in [*sizes, (3, 7, 5)[: len(size)], (1, 1, 2)[-len(size) :]]:
        x = torch.randn(2, channels, *shape)
        y = module(x)
        assert y.shape == x.shape, f"the spatial shape {shape} becomes {tuple(y.shape[2:])}"
        assert y.isfinite().all(), f"not finite on the spatial shape {shape}"


def check_axis_permutation(case: Case) -> None:
    module, (x,) = case.module().double(), case.inputs()
    want, claimed = module(x.double()), AXIS_PERMUTATION in case.claims
    largest = 0.0
    for order in itertools.permutations(range(2, x.dim())):
        got, permuted = module(x.double().permute(0, 1, *order)), want.permute(0, 1, *order)
        if claimed:
            close(got, permuted, f"not equivariant to the permutation {order} of the axes", 1e-9)
        largest = max(largest, (got - permuted).abs().max().item())
    assert claimed or largest > 1e-3, "equivariant to every permutation of the axes; claim it in tests/case.py"


def check_attention_map(case: Case) -> None:
    module, inputs = case.module(), case.inputs()
    claimed = ATTENTION_MAP in case.claims
    assert claimed or not hasattr(module, "attention_map"), "there is an attention_map; claim it in tests/case.py"
    assert not claimed or hasattr(module, "attention_map"), "no attention_map; add one, or say so in tests/case.py"
    if claimed:
        before = _snapshot(module)
        values = module.attention_map(*inputs)
        assert values.isfinite().all(), "attention_map is not finite"
        assert len(values) == 2, "attention_map is not one map per sample"
        assert not torch.equal(*values), "attention_map is the same for two samples"
        assert _snapshot(module) == before, "attention_map stored something"


# --- blocks


def classes_of(module: nn.Module) -> set[type[nn.Module]]:
    """Return the classes of a module and of everything in it."""
    return {type(child) for child in module.modules()}


def check_part_of(case: Case) -> None:
    """Show that the network whose graph stands for that of the block holds it, with everything that it is made of."""
    (block,) = (child for child in case.module().modules() if type(child) is case.kind)
    (net,) = (net for net in NET_CASES if net.name == f"{case.part_of}-{len(case.shapes[0]) - 1}d")
    inside = [classes_of(child) for child in net.module().modules() if type(child) is case.kind]
    assert any(classes_of(block) <= classes for classes in inside), (
        f"{case.part_of} has no such block; leave out part_of"
    )


# --- networks


def _refuses(module: nn.Module, x: Tensor, message: str) -> None:
    said = "nothing"
    try:
        module(x)
    except ValueError as error:
        said = str(error)
    assert re.search(message, said), f"an input of shape {tuple(x.shape)} is answered with: {said}"


def check_refusals(case: Case) -> None:
    module = case.module()
    channels, *size = case.shapes[0]
    divisor = module.size_divisor
    assert isinstance(divisor, tuple), f"size_divisor is a {type(divisor).__name__}, not a tuple"
    assert len(divisor) == len(size), f"size_divisor is {divisor}"
    assert any(d > 1 for d in divisor), f"size_divisor is {divisor}, so no size is refused; use strides"
    for axis, d in enumerate(divisor):
        if d > 1:
            bad, good = list(size), list(size)
            bad[axis], good[axis] = size[axis] + 1, size[axis] + d
            _refuses(module, torch.zeros(1, channels, *bad), f"divisible by.*pad to {re.escape(str(tuple(good)))}")
    _refuses(module, torch.zeros(1, channels + 1, *size), f"must have {channels} channels, got {channels + 1}")
    _refuses(module, torch.zeros(1, channels, *size, 1), f"must have {len(size) + 2} axes")
    _refuses(module, torch.zeros(channels, *size), f"must have {len(size) + 2} axes")


def check_deep_supervision(case: Case) -> None:
    arguments = small_nets.DEEP.get(case.kind.__name__, {})
    deep, plain, inputs = case.module(deep_supervision=True, **arguments), case.module(**arguments), case.inputs()
    logits = deep(*inputs)
    assert logits.shape == plain(*inputs).shape, f"eval returns {tuple(logits.shape)} with deep supervision"
    stacked = deep.train()(*inputs)
    levels = 1 + sum(key.startswith("auxiliary_heads.") and key.endswith(".weight") for key in deep.state_dict())
    want = (2, levels, *logits.shape[1:])
    assert levels > 1, "there is no auxiliary head"
    assert stacked.shape == want, f"training returns {tuple(stacked.shape)}, not {want}"
    close(stacked[:, 0], logits, "the first level is not the prediction")
    _loss(stacked).backward()
    assert all(p.grad is not None for p in deep.parameters()), "a parameter gets no gradient under deep supervision"
    state = deep.state_dict()
    plain.load_state_dict(state)
    close(plain(*inputs), logits, "a net without heads does not load the weights of one with heads")
    assert state.keys() == deep.state_dict().keys(), "loading took keys out of the caller's state dict"
    assert not any(key.startswith("auxiliary_heads.") for key in plain.state_dict()), "heads without supervision"


def check_anisotropic(case: Case) -> None:
    dims, name = len(case.shapes[0]) - 1, case.kind.__name__
    steps = small_nets.STEPS.get(name, len(small_nets.SEGMENTERS[name]["features"]) - 1)
    module = case.module(strides=[(1, *(2,) * (dims - 1)), *[2] * (steps - 1)])
    whole = case.module(strides=2).size_divisor
    assert module.size_divisor == (whole[0] // 2, *whole[1:]), f"size_divisor is {module.size_divisor}"
    x = torch.randn(1, case.shapes[0][0], *(d * n for d, n in zip(module.size_divisor, (3, 2, 4), strict=False)))
    assert module(x).shape == (1, case.out_channels, *x.shape[2:]), "anisotropic strides change the output grid"


MODULE_CHECKS = (
    check_shape,
    check_input_untouched,
    check_stores_nothing,
    check_gradients,
    check_eval_repeatable,
    check_batch,
    check_finite,
    check_round_trip,
    check_metadata,
    check_script,
    check_export,
    check_compile,
    check_onnx,
)
ATTENTION_CHECKS = (
    *MODULE_CHECKS,
    check_contract,
    check_unit_and_odd_axes,
    check_axis_permutation,
    check_attention_map,
)
CLASSIFIER_CHECKS = MODULE_CHECKS
NET_CHECKS = (*MODULE_CHECKS, check_refusals, check_deep_supervision, check_anisotropic)


def _made_elsewhere(case: Case, check: Callable[[Case], None]) -> bool:
    """Tell whether another case has the graph: what a module's in 2D has, that in 3D has, and a block's its network's.

    All of these are slow. In 2D networks alone are exported, there from the small example; nothing else in 2D is.
    """
    if len(case.shapes[0]) < 4:
        return check in (check_compile, check_onnx) or (check is check_export and not case.is_net)
    return bool(case.part_of) and check in (check_compile, check_onnx)


def battery(cases: Iterable[Case], checks: Iterable[Callable[[Case], None]] = MODULE_CHECKS) -> list:
    """Return every case with every check, for ``parametrize(("case", "check"), ...)``, but what is made elsewhere."""
    return [
        pytest.param(case, check, id=f"{case.name}-{check.__name__.removeprefix('check_')}")
        for case in cases
        for check in (*checks, *([check_part_of] if case.part_of else []))
        if not _made_elsewhere(case, check)
    ]
