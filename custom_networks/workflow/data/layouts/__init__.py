"""The ways in which a folder holds images and labels, one file per way, and the finder that tries them in turn."""
