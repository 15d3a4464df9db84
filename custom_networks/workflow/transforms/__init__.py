"""Transforms of images and labels that MONAI does not have."""
