"""From voxels to tokens, a transformer on them, and back to voxels: what Primus is made of."""

from custom_networks.blocks.tokens.convolutional_tokens import ConvolutionalTokens, ResidualUnit
from custom_networks.blocks.tokens.eva_block import EvaAttention, EvaBlock, StochasticDepth, SwiGlu
from custom_networks.blocks.tokens.eva_transformer import EvaTransformer
from custom_networks.blocks.tokens.matrix_convolution import patch_convolution
from custom_networks.blocks.tokens.patch_embedding import PatchEmbedding
from custom_networks.blocks.tokens.rotary_positions import rotary_angles, rotary_frequencies, turn_neighbours
from custom_networks.blocks.tokens.transposed_decoder import ChannelNorm, TransposedDecoder, decoder_widths

__all__ = [
    "ChannelNorm",
    "ConvolutionalTokens",
    "EvaAttention",
    "EvaBlock",
    "EvaTransformer",
    "PatchEmbedding",
    "ResidualUnit",
    "StochasticDepth",
    "SwiGlu",
    "TransposedDecoder",
    "decoder_widths",
    "patch_convolution",
    "rotary_angles",
    "rotary_frequencies",
    "turn_neighbours",
]
