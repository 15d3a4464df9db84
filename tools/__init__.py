"""What maintainers of this repository have: ``python -m tools <command>``; nothing in the package imports it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""
