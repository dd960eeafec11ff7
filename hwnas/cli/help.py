"""How the help looks: verbs by theme, and two real commands at the end of each verb's own help."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import typer.core

__all__ = ["EXAMPLES", "THEMES", "ThemedGroup", "complete", "with_examples"]

THEMES: Mapping[str, tuple[str, ...]] = {
    "Find networks": ("search", "report", "compare", "space", "describe", "models", "gallery"),
    "Train": ("train", "train-many", "evaluate", "supernet", "dense", "explain"),
    "Deploy": ("export", "predict"),
    "Devices": ("devices", "measure", "table", "doctor"),
}
"""The sections of `hwnas --help`, and their verbs in order."""

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "search": (
        "hwnas search --device rpi4 --budget 20ms",
        "hwnas search --device rpi4 --device rpi5 --budget 20ms --budget 8ms --max-params 6M",
    ),
    "report": (
        "hwnas report runs/rpi4-20ms-1 --plots figures",
        "hwnas report trained --data photos",
    ),
    "compare": (
        "hwnas compare runs/rpi4-20ms-1 runs/rpi4-20ms-2",
        "hwnas compare runs/rpi4-20ms-1 runs/rpi4-20ms-2 --out both.html",
    ),
    "space": (
        "hwnas space describe --device rpi4",
        "hwnas space new my-space.yaml && hwnas space check my-space.yaml",
    ),
    "describe": (
        "hwnas describe uniform-t --device rpi4",
        "hwnas describe runs/rpi4-20ms-1#1 --device rpi4 --json",
    ),
    "models": ("hwnas models", "hwnas models --json"),
    "gallery": ("hwnas gallery --device rpi4 --budget 20ms", "hwnas gallery --json"),
    "train": (
        "hwnas train uniform-t --data photos --recipe small --epochs 4",
        "hwnas train runs/rpi4-20ms-1#1 --data photos.tar --init published --out trained",
    ),
    "train-many": (
        "hwnas train-many runs/rpi4-20ms-1 --data photos --recipe small --workers 2",
        "hwnas train-many uniform-t shvit-s1 --data photos --recipe small --out all",
    ),
    "evaluate": (
        "hwnas evaluate trained --data photos",
        "hwnas evaluate trained --data cifar10:downloads --json",
    ),
    "supernet": (
        "hwnas supernet train --data photos --image-size 64 --stem-stride 4 --out shared",
        "hwnas supernet evaluate shared uniform-t runs/rpi4-20ms-1",
    ),
    "dense": (
        "hwnas dense train uniform-t --task detect --data coco --init trained",
        "hwnas dense evaluate trainings/uniform-t-1 --data coco",
    ),
    "explain": (
        "hwnas explain trained --image cat.jpg",
        "hwnas explain uniform-t --init published --image cat.jpg --out explained",
    ),
    "export": (
        "hwnas export trained --out model.onnx --evaluate photos",
        "hwnas export trained --precision int8 --calibration photos --out model.int8.onnx",
    ),
    "predict": (
        "hwnas predict model.onnx cat.jpg dog.jpg",
        "hwnas predict detector.onnx street.jpg --out drawn",
    ),
    "devices": ("hwnas devices", "hwnas devices --json"),
    "measure": (
        "hwnas measure model.onnx",
        "hwnas measure uniform-t presets --device cpu-x86",
    ),
    "table": (
        "hwnas table build --name my-pc --minutes 5",
        "hwnas table transfer --name my-pi --host pi@raspberrypi --samples 20",
    ),
    "doctor": (
        "hwnas doctor",
        "hwnas doctor --host pi@raspberrypi",
    ),
}
"""Two commands for each verb. `tests/test_cli_docs.py` holds their options."""


class ThemedGroup(typer.core.TyperGroup):
    """The top level: its verbs stand under their themes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.commands))
        for theme, verbs in THEMES.items():
            rows = [
                (verb.ljust(width), self.commands[verb].get_short_help_str(formatter.width))
                for verb in verbs
                if verb in self.commands
            ]
            with formatter.section(theme):
                formatter.write_dl(rows)


def with_examples(command: Any, verb: str) -> None:
    """Ends the help of a verb, and of the commands of its group, with its two commands."""
    lines = "\n".join(f"  {line}" for line in EXAMPLES[verb])
    for one in (command, *getattr(command, "commands", {}).values()):
        one.epilog = f"\b\nExamples:\n{lines}"


def complete(command: Any, variable: str) -> int:
    """Answers the shell's question for completions, which the variable holds; the exit code."""
    from typer.completion import shell_complete

    return shell_complete(command, {}, "hwnas", variable, os.environ[variable])
