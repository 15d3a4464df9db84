"""Insert an attention module at named points of any network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from custom_networks.blocks.residual_attention import ResidualAttention
from custom_networks.registry import attention_class, build_attention, nearest

# Sizes that the networks of MONAI accept: powers of two for most, a multiple of three for strides of three.
_SIZES = (32, 64, 96, 128)


class _Plugged(nn.Module):
    """A point of a network followed by residual attentions; in checkpoints its own weights keep their names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.plugged_attention = nn.Sequential()
        self.register_state_dict_post_hook(_drop_level)
        self.register_load_state_dict_pre_hook(_add_level)

    def forward(self, x: Tensor) -> Tensor:
        return self.plugged_attention(self.network(x))


def _drop_level(module: _Plugged, state_dict: dict[str, Tensor], prefix: str, _: object) -> None:
    """Save the weights of the point under the names that they had before the plug."""
    for key in [key for key in state_dict if key.startswith(f"{prefix}network.")]:
        state_dict[prefix + key.removeprefix(f"{prefix}network.")] = state_dict.pop(key)


def _add_level(module: _Plugged, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Find the weights of the point under those names; an attention of which a checkpoint has nothing keeps its own."""
    for name in module.network.state_dict():
        if prefix + name in state_dict:
            state_dict[f"{prefix}network.{name}"] = state_dict.pop(prefix + name)
    for name, attention in module.plugged_attention.named_children():
        own = {f"{prefix}plugged_attention.{name}.{key}": value for key, value in attention.state_dict().items()}
        if not own.keys() & state_dict.keys():
            state_dict.update(own)


def _first_convolution(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return module
    raise ValueError(
        f"{type(network).__name__} has no convolution to learn the number of input channels from; plug networks that "
        f"take images"
    )


def _calls(network: nn.Module) -> dict[nn.Module, list[tuple[Any, Any]]]:
    """Run the network without data, on the meta device, and return what went into and came out of each module."""
    seen: dict[nn.Module, list[tuple[Any, Any]]] = {}
    dry = copy.deepcopy(network).to("meta").eval()
    originals = dict(zip(dry.modules(), network.modules(), strict=True))

    def note(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        seen.setdefault(originals[module], []).append(((*args, *kwargs.values()), output))

    for module in dry.modules():
        module.register_forward_hook(note, with_kwargs=True)
    first = _first_convolution(network)
    reason: Exception | None = None
    for size in _SIZES:
        seen.clear()
        shape = (1, first.in_channels, *(size,) * len(first.kernel_size))  # type: ignore[arg-type]
        try:
            with torch.no_grad():
                dry(torch.empty(shape, device="meta"))
        except Exception as error:  # whatever a network raises on a size that it cannot take
            reason = error
        else:
            return seen
    raise ValueError(
        f"{type(network).__name__} cannot be run without data on sizes {_SIZES} to learn its channels ({reason}); plug "
        f"a network that takes one of these sizes"
    )


def _fits(calls: list[tuple[Any, Any]]) -> bool:
    """Return whether a module was called with one tensor, gave one ``(B, C, *spatial)``, always of the same width."""
    return len(calls) > 0 and (
        all(len(args) == 1 and isinstance(args[0], Tensor) and isinstance(out, Tensor) for args, out in calls)
        and all(out.dim() in (4, 5) for _, out in calls)
        and len({(out.dim(), out.shape[1]) for _, out in calls}) == 1
    )


def plug(network: nn.Module, points: str | Sequence[str], attention_module: str, **kwargs: Any) -> nn.Module:
    r"""Return a copy of a network with an attention module after each of the named points.

    A point is the dotted name of a submodule that takes one tensor and returns one tensor ``(B, C, *spatial)``; its
    output y becomes

    .. math:: y + \gamma\,\mathrm{attention}(y), \qquad \gamma = 0 \text{ at initialisation}

    so that the copy computes at first what the network computes, and its first step moves :math:`\gamma`. Channels are
    found by a run without data. The copy keeps TorchScript and ONNX export. It loads the network's own weights
    strictly, the attention keeping its initial values, as well as weights of its own kind: in checkpoints the weights
    of a point keep their names, and those of its attention stand under ``<point>.plugged_attention.<number>``. A point
    that is plugged again gets a second attention after the first.

    Differs from the paper: none; each attention's source is named in its class.

    Args:
        network: any network that takes one image ``(B, C, *spatial)`` whose first convolution sees its channels.
        points: names of submodules as in ``network.named_modules()``.
        attention_module: a name in :data:`custom_networks.registry.ATTENTION`.
        **kwargs: arguments of the attention class, besides ``spatial_dims`` and ``in_channels``.

    Raises:
        ValueError: if there is no such point or attention (the message offers the nearest), if a point does not map
            one tensor to one tensor, or if the network cannot be run without data.

    Example:
        >>> from monai.networks.nets import SegResNet
        >>> network = plug(SegResNet(init_filters=8), "down_layers.1", "non_local")
        >>> network.down_layers[1].plugged_attention[0].attention.theta.in_channels
        16

    Cost:
        One parameter and those of the attention per point. Building it takes a copy of the weights on the meta device,
        no memory of its own.

    References:
        T. Bachlechner et al., "ReZero is All You Need: Fast Convergence at Large Depth", UAI 2021, arXiv:2003.04887.
    """
    attention_class(attention_module)  # a wrong name is said before the network is run
    network = copy.deepcopy(network)
    wrapped = {module.network for module in network.modules() if isinstance(module, _Plugged)}
    modules = {
        name: module
        for name, module in network.named_modules(remove_duplicate=False)
        if name and module not in wrapped and ".plugged_attention" not in name
    }
    calls = _calls(network)
    valid = [name for name, module in modules.items() if _fits(calls.get(module, []))]
    names = list(dict.fromkeys([points] if isinstance(points, str) else points))
    if not names:
        raise ValueError(f"points must name at least one submodule of {type(network).__name__}; use {valid[0]!r}")
    for name in names:
        if name not in modules:
            raise ValueError(
                f"{type(network).__name__} has no point {name!r}; the nearest are {nearest(name, valid, 5)}"
            )
        if name not in valid:
            raise ValueError(
                f"{name!r} of {type(network).__name__} does not turn one tensor into one tensor (B, C, *spatial); the "
                f"nearest points that do are {nearest(name, valid, 5)}"
            )
    for point in dict.fromkeys(modules[name] for name in names):
        output = calls[point][0][1]
        plugged = point if isinstance(point, _Plugged) else _Plugged(point)
        branch = build_attention(attention_module, output.dim() - 2, output.shape[1], kwargs)
        plugged.plugged_attention.append(ResidualAttention(branch))
        plugged.plugged_attention.train(point.training)
        plugged.training = point.training
        if plugged is point:
            continue
        # A module may hang in several places (DynUNet keeps its blocks in lists and in a nest).
        places = [
            (parent, name) for parent in network.modules() for name, child in parent._modules.items() if child is point
        ]
        for parent, name in places:
            setattr(parent, name, plugged)
    return network
