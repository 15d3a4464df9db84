"""How a network is run on an image: mixed precision, mirroring, windows."""
