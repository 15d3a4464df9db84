"""What the networks are made of."""

from custom_networks.blocks.attention_gate import AttentionGate
from custom_networks.blocks.axial_block import AxialBlock
from custom_networks.blocks.axial_branch import AxialBranch
from custom_networks.blocks.dual_conv import DualConv, convolution_block
from custom_networks.blocks.edge_aggregation import EdgeAggregation, SkipGate, SpatialMask
from custom_networks.blocks.gated_axial_attention import GatedAxialAttention
from custom_networks.blocks.mbtfe import Mbtfe
from custom_networks.blocks.position_embedding import PositionEmbedding
from custom_networks.blocks.residual_attention import ResidualAttention
from custom_networks.blocks.residual_trunk import BottleneckUnit, ResidualTrunk
from custom_networks.blocks.resize import crop, resize
from custom_networks.blocks.rotary_self_attention import RotarySelfAttention
from custom_networks.blocks.standardised_convolution import StandardisedConvolution
from custom_networks.blocks.tokens import (
    ConvolutionalTokens,
    EvaBlock,
    EvaTransformer,
    PatchEmbedding,
    ResidualUnit,
    TransposedDecoder,
    patch_convolution,
)
from custom_networks.blocks.up_block import UpBlock
from custom_networks.blocks.vision_transformer import TransformerLayer, VisionTransformer
from custom_networks.blocks.windows import fold_windows, unfold_windows

__all__ = [
    "AttentionGate",
    "AxialBlock",
    "AxialBranch",
    "BottleneckUnit",
    "ConvolutionalTokens",
    "DualConv",
    "EdgeAggregation",
    "EvaBlock",
    "EvaTransformer",
    "GatedAxialAttention",
    "Mbtfe",
    "PatchEmbedding",
    "PositionEmbedding",
    "ResidualAttention",
    "ResidualTrunk",
    "ResidualUnit",
    "RotarySelfAttention",
    "SkipGate",
    "SpatialMask",
    "StandardisedConvolution",
    "TransformerLayer",
    "TransposedDecoder",
    "UpBlock",
    "VisionTransformer",
    "convolution_block",
    "crop",
    "fold_windows",
    "patch_convolution",
    "resize",
    "unfold_windows",
]
