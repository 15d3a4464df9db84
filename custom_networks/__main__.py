"""The users' commands: ``python -m custom_networks <command>``, installed as ``custom_networks <command>``."""

from __future__ import annotations

import sys

from custom_networks.command_line import Commands, run

COMMANDS: Commands = {
    "list": "custom_networks.catalogue:list_all",
    "info": "custom_networks.catalogue:info",
    "check": "custom_networks.adapt.commands:check",
    "adapt": "custom_networks.adapt.commands:adapt",
    "predict": "custom_networks.predict.commands:predict",
    "report": "custom_networks.workflow.report.page.command:report",
    "evaluate": "custom_networks.evaluate.commands:evaluate",
    "cross_validate": "custom_networks.studies.commands:cross_validate",
    "compare": "custom_networks.compare.commands:compare",
    "attention_map": "custom_networks.attention_map.attention_map:attention_map",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: arguments after the program; those of the process if None.
    """
    return run("custom_networks", COMMANDS, argv, texts=True)


if __name__ == "__main__":
    sys.exit(main())
