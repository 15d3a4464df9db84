"""Where named structures lie in an image of a whole head, found by registration with a template."""
