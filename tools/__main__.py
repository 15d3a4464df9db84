"""The maintainers' commands: ``python -m tools <command>``."""

from __future__ import annotations

import sys

from custom_networks.command_line import Commands, run

COMMANDS: Commands = {
    "bundles": {
        "render": "tools.recipes.render:render",
        "train": "tools.study.train:train",
        "describe": "tools.study.describe:describe",
    },
    "data": {
        "embedded": "tools.data.datasets:embedded",
        "fetch": "tools.data.datasets:fetch",
        "convert": "tools.data.medmnist:convert",
    },
    "template": "tools.data.template:template",
    "demo": "tools.demo:demo",
    "bench": {
        "": "tools.bench.bench:bench",
        "attention": "tools.reference.bench_attention:bench_attention",
        "axial": "tools.bench.bench_axial:bench_axial",
        "loader": "tools.bench.bench_loader:bench_loader",
        "predict": "tools.bench.bench_predict:bench_predict",
        "engines": "tools.bench.bench_engines:bench_engines",
        "heads": "tools.bench.bench_heads:bench_heads",
        "windows": "tools.bench.bench_windows:bench_windows",
    },
    "reference": "tools.reference.attention_reference:reference",
    "pages": "tools.reference.pages:pages",
    "plans": {"": "tools.reference.plans:plans", "make": "tools.reference.plans:make"},
    "ablate": {"": "tools.study.ablate:ablate", "cost": "tools.study.ablate_cost:ablate_cost"},
    "export": "tools.ship.export:export",
    "label": {"serve": "tools.ship.label:serve"},
    "lint": "tools.ship.lint:lint",
    "pack": "tools.ship.pack:pack",
    "verify": "tools.ship.verify:verify",
    "screenshot": "tools.pictures.screenshot:screenshot",
    "forest": "tools.study.forest:forest",
    "gates": "tools.study.gates:gates",
    "heads": "tools.study.heads:heads",
    "study": {
        "keep": "tools.study.kept:keep",
        "results": "tools.study.results:results",
        "control": "tools.study.control:control",
    },
    "precision": "tools.study.precision:precision",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: arguments after the program; those of the process if None.
    """
    return run("python -m tools", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
