"""Command line tools of this repository: ``python -m tools <command>``; nothing in ``custom_networks`` imports them."""
