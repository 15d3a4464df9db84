"""The specifications of the bundles, one module each."""
