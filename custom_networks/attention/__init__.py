"""Plug-in attention modules: same shape in, same shape out.

A bias that cancels in a softmax or in a norm is not built; it stands only where shipped weights hold it.
"""

from custom_networks.attention.axial_attention import AxialAttention
from custom_networks.attention.bam import Bam
from custom_networks.attention.cbam import Cbam
from custom_networks.attention.coordinate_attention import CoordinateAttention
from custom_networks.attention.criss_cross_attention import CrissCrossAttention
from custom_networks.attention.double_attention import DoubleAttention
from custom_networks.attention.dual_attention import DualAttention
from custom_networks.attention.eca import Eca
from custom_networks.attention.efficient_multi_head_self_attention import EfficientMultiHeadSelfAttention
from custom_networks.attention.external_attention import ExternalAttention
from custom_networks.attention.global_filter import GlobalFilter
from custom_networks.attention.multi_head_self_attention import MultiHeadSelfAttention
from custom_networks.attention.non_local import NonLocal
from custom_networks.attention.par_net_attention import ParNetAttention
from custom_networks.attention.polarized_self_attention import PolarizedSelfAttention
from custom_networks.attention.selective_kernel import SelectiveKernel
from custom_networks.attention.separable_self_attention import SeparableSelfAttention
from custom_networks.attention.shuffle_attention import ShuffleAttention
from custom_networks.attention.sim_am import SimAm
from custom_networks.attention.simplified_self_attention import SimplifiedSelfAttention
from custom_networks.attention.spatial_group_enhance import SpatialGroupEnhance
from custom_networks.attention.squeeze_excitation import SqueezeExcitation
from custom_networks.attention.triplet_attention import TripletAttention
from custom_networks.attention.ufo_attention import UfoAttention

__all__ = [
    "AxialAttention",
    "Bam",
    "Cbam",
    "CoordinateAttention",
    "CrissCrossAttention",
    "DoubleAttention",
    "DualAttention",
    "Eca",
    "EfficientMultiHeadSelfAttention",
    "ExternalAttention",
    "GlobalFilter",
    "MultiHeadSelfAttention",
    "NonLocal",
    "ParNetAttention",
    "PolarizedSelfAttention",
    "SelectiveKernel",
    "SeparableSelfAttention",
    "ShuffleAttention",
    "SimAm",
    "SimplifiedSelfAttention",
    "SpatialGroupEnhance",
    "SqueezeExcitation",
    "TripletAttention",
    "UfoAttention",
]
