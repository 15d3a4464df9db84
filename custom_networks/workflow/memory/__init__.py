"""The memory that a run is expected to take."""
