"""Trainings that are kept as run files."""
