"""One module per file format: ``read_header(path)`` and ``read_voxels(path)``, the same two functions in each."""
