"""What the networks are made of."""

from custom_networks.blocks.attention_gate import AttentionGate
from custom_networks.blocks.residual_attention import ResidualAttention
from custom_networks.blocks.resize import resize

__all__ = ["AttentionGate", "ResidualAttention", "resize"]
