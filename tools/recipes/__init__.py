"""The recipes that the bundles' configs are rendered from."""
