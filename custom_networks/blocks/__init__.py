"""What the networks are made of."""

from custom_networks.blocks.attention_gate import AttentionGate
from custom_networks.blocks.position_embedding import PositionEmbedding
from custom_networks.blocks.residual_attention import ResidualAttention
from custom_networks.blocks.residual_trunk import BottleneckUnit, ResidualTrunk
from custom_networks.blocks.resize import resize
from custom_networks.blocks.rotary_self_attention import RotarySelfAttention
from custom_networks.blocks.standardised_convolution import StandardisedConvolution
from custom_networks.blocks.up_block import UpBlock
from custom_networks.blocks.vision_transformer import TransformerLayer, VisionTransformer

__all__ = [
    "AttentionGate",
    "BottleneckUnit",
    "PositionEmbedding",
    "ResidualAttention",
    "ResidualTrunk",
    "RotarySelfAttention",
    "StandardisedConvolution",
    "TransformerLayer",
    "UpBlock",
    "VisionTransformer",
    "resize",
]
