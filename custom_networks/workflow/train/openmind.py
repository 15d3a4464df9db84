"""Weights of OpenMind (nnssl), which a transformer learned without labels, as a start for one of the same kind."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import ignite.distributed as idist
import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger(__name__)
WEIGHTS, PLAN = "network_weights", "nnssl_adaptation_plan"
TURNED = ("attn.q_proj.weight", "attn.q_proj.bias", "attn.k_proj.weight")
RASTER_TRAINER = "simmim"
"""In its trainers the tokens run in raster order; in all others of nnssl the first two axes are exchanged."""


def is_pretrained(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a file is a checkpoint of nnssl.

    Args:
        checkpoint: what the file holds.
    """
    return isinstance(checkpoint.get(WEIGHTS), Mapping) and isinstance(checkpoint.get(PLAN), Mapping)


def pretrained_state(checkpoint: Mapping[str, Any], network: nn.Module, path: object) -> dict[str, Tensor]:
    """Return what a network can take of a checkpoint of nnssl, by the names of the network.

    The adaptation plan in the file says under which prefixes encoder and stem are. Tokens whose first two axes were
    exchanged in the pre-training are put in raster order, which changes no feature: the rows of the table of positions,
    and which part of every head is turned along which axis. The table is resized linearly to the network's reference
    grid. What is taken and what is not, licence and citations are logged.

    Args:
        checkpoint: what the file holds, see :func:`is_pretrained`.
        network: the network that is to start from it.
        path: the file, for messages.

    Raises:
        ValueError: if the plan does not say where encoder and stem are.

    Example:
        >>> import torch
        >>> plan = {"key_to_encoder": "encoder.eva", "key_to_stem": "encoder.down_projection", "key_to_lpe": None}
        >>> weights = {"encoder.eva.norm.bias": torch.zeros(2), "decoder.norm.bias": torch.zeros(2)}
        >>> list(pretrained_state({"network_weights": weights, "nnssl_adaptation_plan": plan}, nn.Identity(), "x.pth"))
        ['eva.norm.bias']
    """
    weights, plan = checkpoint[WEIGHTS], checkpoint[PLAN]
    parts = [plan.get(f"key_to_{part}") for part in ("encoder", "stem")]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(
            f"{path} must say where its encoder and its stem are, its plan has key_to_encoder and key_to_stem "
            f"{tuple(parts)}; give a checkpoint as nnssl publishes it"
        )
    state: dict[str, Tensor] = {}
    left: list[str] = []
    for key, value in weights.items():
        for part in parts:
            if key.startswith(f"{part}."):
                name = f"{part.rpartition('.')[2]}.{key.removeprefix(f'{part}.')}"
                if ".all_modules." not in name and not name.endswith("cls_token"):
                    state[name] = value
                break
        else:
            left.append(key.partition(".")[0])
    said = [f"without {', '.join(dict.fromkeys(left))}"] if left else []
    said += _fit_tokens(state, plan, network, str(checkpoint.get("trainer_name", "")))
    if idist.get_rank() == 0:
        kind = (plan.get("architecture_plans") or {}).get("arch_class_name", "a network")
        logger.info(
            "%s: %s of %s%s", path, kind, checkpoint.get("trainer_name", "nnssl"), "".join(f"; {s}" for s in said)
        )
        for word in ("license", "citations"):
            found = checkpoint.get(word, plan.get(word))
            if found:
                logger.info("%s: %s: %s", path, word, found)
    return state


def _fit_tokens(state: dict[str, Tensor], plan: Mapping[str, Any], network: nn.Module, trainer: str) -> list[str]:
    """Put the tokens in raster order and the table on the network's grid, in place; return what was done in words."""
    table, eva = state.get("eva.pos_embed"), getattr(network, "eva", None)
    grid: Sequence[int] | None = getattr(eva, "token_grid", None)
    if eva is None or grid is None:
        return []
    axes = len(grid)
    said, order = [], list(range(axes))
    if RASTER_TRAINER not in trainer.lower():
        order[:2] = [1, 0]
        number, width = eva.blocks[0].attn.heads
        for key, rows in state.items():
            if key.endswith(TURNED) and len(rows) == number * width:
                state[key] = _exchanged(rows, number, axes)
        said.append("tokens put in raster order, the first two axes were exchanged")
    if table is None or table.dim() != 3:
        return said
    old = _old_grid(table.shape[1], plan, getattr(network, "size_divisor", (1,) * axes))
    if old is None:
        return [*said, f"its table of {table.shape[1]} positions belongs to no grid of its plan"]
    places = table.unflatten(1, [old[axis] for axis in order]).permute(0, axes + 1, *(1 + axis for axis in order))
    if list(old) != list(grid):
        mode = "trilinear" if axes == 3 else "bilinear"
        places = F.interpolate(places.float(), size=list(grid), mode=mode, align_corners=False)
        said.append(f"table of positions resized from {tuple(old)} to {tuple(grid)}")
    state["eva.pos_embed"] = places.flatten(2).transpose(1, 2).contiguous()
    return said


def _old_grid(tokens: int, plan: Mapping[str, Any], divisor: Sequence[int]) -> list[int] | None:
    """Return the grid with so many tokens: of a patch of the plan, or a cube."""
    configurations = (plan.get("pretrain_plan") or {}).get("configurations") or {}
    patches = [entry.get("patch_size") for entry in configurations.values()]
    for patch in [*patches, plan.get("recommended_downstream_patchsize")]:
        if isinstance(patch, Sequence) and len(patch) == len(divisor):
            grid = [int(n) // part for n, part in zip(patch, divisor, strict=True)]
            if prod(grid) == tokens:
                return grid
    side = round(tokens ** (1 / len(divisor)))
    return [side] * len(divisor) if side ** len(divisor) == tokens else None


def _exchanged(rows: Tensor, heads: int, axes: int) -> Tensor:
    """Exchange, in every head, the rows that are turned along the first axis with those along the second."""
    by_head = rows.unflatten(0, [heads, -1])
    width = by_head.shape[1]
    part = 2 * (width // (2 * axes))
    order = [*range(part, 2 * part), *range(part), *range(2 * part, width)]
    return by_head[:, order].flatten(0, 1)
