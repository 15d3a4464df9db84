"""The gates of trained axial attention as a table."""

from __future__ import annotations

from torch import Tensor

from custom_networks.blocks.gated_axial_attention import INITIAL_GATES

HEADS = ("query", "key", "value", "position")


def tabulate_gates(state: dict[str, Tensor], where: str) -> str:
    """Return the gates of a state dict as a Markdown table.

    Args:
        state: the state dict.
        where: where it comes from, for the error.

    Raises:
        ValueError: if there are no gates in it.
    """
    found = {key.removesuffix(".gates"): value.tolist() for key, value in state.items() if key.endswith(".gates")}
    if not found:
        raise ValueError(f'{where} holds no gates; give weights of a network with form "gated" or "released"')
    rows = [f"| layer | {' | '.join(HEADS)} |", "|" + "---|" * (1 + len(HEADS))]
    for name, values in found.items():
        cells = [f"{value:.3f} ({value - first:+.3f})" for value, first in zip(values, INITIAL_GATES, strict=True)]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    changes = [[abs(values[i] - INITIAL_GATES[i]) for values in found.values()] for i in range(len(HEADS))]
    rows.append(f"| mean change | {' | '.join(f'{sum(own) / len(own):.3f}' for own in changes)} |")
    return "\n".join(rows)
