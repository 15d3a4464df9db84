"""Data sets for the bundles."""
