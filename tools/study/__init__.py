"""Trainings and removal tests, kept as run files."""
