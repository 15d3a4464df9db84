"""The networks, one file per architecture."""

from custom_networks.nets.attention_classifier import AttentionClassifier
from custom_networks.nets.attention_unet import AttentionUnet

__all__ = ["AttentionClassifier", "AttentionUnet"]
