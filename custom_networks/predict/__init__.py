"""The command ``predict``: images in, masks and measurements out."""
