"""The networks, one file per architecture."""

from custom_networks.nets.attention_classifier import AttentionClassifier
from custom_networks.nets.attention_unet import AttentionUnet
from custom_networks.nets.axial_unet import AxialUnet
from custom_networks.nets.mbtfe_unet import MbtfeUnet
from custom_networks.nets.medical_transformer import MedicalTransformer
from custom_networks.nets.primus import Primus
from custom_networks.nets.setr import Setr
from custom_networks.nets.transunet import TransUnet

__all__ = [
    "AttentionClassifier",
    "AttentionUnet",
    "AxialUnet",
    "MbtfeUnet",
    "MedicalTransformer",
    "Primus",
    "Setr",
    "TransUnet",
]
