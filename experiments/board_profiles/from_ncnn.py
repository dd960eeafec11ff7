"""ncnn's published benchmark -> latency_tables/rpi*-ncnn*.yaml, by `hwnas table transfer --measurements`.

The known device is the machine of ncnn_x86.csv, on which the same graphs were timed with ncnn; its figures
are put on the scale of the table cpu-x86-ncnn, which was measured on another x86 core, by the presets timed
among them: a line in logs, since the two differ more on small networks than on large ones.

    python experiments/board_profiles/from_ncnn.py           # measurements and tables, some minutes
    python experiments/board_profiles/from_ncnn.py --errors  # prints the errors of the tables there
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from published_rows import is_near, known_features, read_csv

from hwnas.cli.app import main as hwnas
from hwnas.predictors.latency.features import FEATURE_NAMES
from hwnas.predictors.latency.table import LatencyTable
from hwnas.predictors.latency.transfer.model import fit_transfer
from hwnas.space.presets import preset, preset_names

HERE = Path(__file__).resolve().parent
TABLES = HERE.parent.parent / "latency_tables"
KNOWN = "cpu-x86-ncnn"
FAMILIES = ("mobilenet", "shufflenet", "squeezenet", "efficientnet", "resnet", "yolo", "mnasnet", "proxyless")
"""Networks whose names have one of these are of one family, the first that fits; each other is one alone."""
SOURCE = "ncnn's benchmark (Tencent/ncnn a4d2ea1, benchmark/README.md)"
BOARDS: Mapping[str, tuple[str, str, str]] = {
    "rpi-zero-2w-ncnn": ("Raspberry Pi Zero 2 W", "Raspberry Pi Zero 2 W", "fp32"),
    "rpi3b-plus-ncnn": ("Raspberry Pi 3 Model B+", "Raspberry Pi 3B+", "fp32"),
    "rpi4-ncnn": ("Raspberry Pi 4 Model B", "Raspberry Pi 4B", "fp32"),
    "rpi5-ncnn": ("Raspberry Pi 5 ", "Raspberry Pi 5", "fp16"),
}
"""Device -> the board there, in words here, and ncnn's default precision: halves on a Cortex-A76 only."""


def known_ms() -> dict[str, float]:
    """Milliseconds of each graph on the scale of the table cpu-x86-ncnn."""
    timed = {
        row["model"]: min(float(ms) for name, ms in row.items() if name != "model")
        for row in read_csv("ncnn_x86.csv")
    }
    table = LatencyTable.load(TABLES / f"{KNOWN}.yaml")
    presets = {name: ms for name, ms in timed.items() if name in preset_names()}
    logs = np.log(list(presets.values()))
    ratios = np.log([table.predict(preset(name)).value for name in presets]) - logs
    slope, offset = np.polyfit(logs, ratios, 1)
    left = np.exp(np.abs(ratios - offset - slope * logs))
    print(
        f"presets: the table over this machine, {np.exp(ratios.min()):.2f} to {np.exp(ratios.max()):.2f}, "
        f"within a factor of {left.max():.2f} of a line in logs of slope {slope:.2f}"
    )

    def scaled(ms: float) -> float:
        at = np.clip(np.log(ms), logs.min(), logs.max())  # no further than presets were timed
        return float(ms * np.exp(offset + slope * at))

    return {name: scaled(ms) for name, ms in timed.items() if name not in presets}


def published_ms(device: str, threads: int) -> dict[str, float]:
    """The fastest of ncnn's runs of each network (an average may hold a disturbed one), of those timed here.

    int8 is left out, and so are networks far from all that is searched.
    """
    timed = {row["model"] for row in read_csv("ncnn_x86.csv")}
    return {
        row["model"]: float(row["min_ms"])
        for row in read_csv("ncnn_boards.csv")
        if row["board"].startswith(BOARDS[device][0])
        and int(row["threads"]) == threads
        and row["model"] in timed
        and is_near(f"ncnn {row['model']}")
    }


def write_measurements(device: str, threads: int, known: Mapping[str, float], path: Path) -> None:
    features = known_features()
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {SOURCE}, {BOARDS[device][1]}, threads: {threads}. Written by from_ncnn.py.\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["network", "ms", *FEATURE_NAMES, KNOWN])
        for name, ms in published_ms(device, threads).items():
            counted = [f"{value:.0f}" for value in features[f"ncnn {name}"][1]]
            writer.writerow([name, ms, *counted, f"{known[name]:.4f}"])


def family_left_out(path: Path) -> dict[str, float]:
    """Each network predicted by a transfer without its family, in ms, from a file of measurements."""
    measured = pd.read_csv(path, comment="#").set_index("network")
    told, known, ms = measured[list(FEATURE_NAMES)], measured[[KNOWN]], measured["ms"]
    families: dict[str, list[str]] = {}
    for label in ms.index:
        families.setdefault(next((name for name in FAMILIES if name in label.lower()), label), []).append(
            label
        )
    found: dict[str, float] = {}
    for labels in families.values():
        answers = fit_transfer(told, known, ms.drop(labels)).predict(labels)["value"]
        found |= dict(zip(labels, answers.tolist(), strict=True))
    return found


def judged_by_family(path: Path, file: Path) -> None:
    """Adds the error with a family left out to a table's facts."""
    table = LatencyTable.load(path)
    left_out = family_left_out(file)
    errors = [abs(left_out[one.label] / one.measured_ms - 1) for one in table.heldout.networks]
    facts = {
        "leave_one_family_out_mape_percent": round(100 * float(np.mean(errors)), 1),
        "leave_one_family_out_median_percent": round(100 * float(np.median(errors)), 1),
    }
    dataclasses.replace(table, measurement={**table.measurement, **facts}).save(path)


def one_factor_percent(device: str, threads: int, known: Mapping[str, float]) -> float:
    """Median error of each network predicted by one factor from the others."""
    published = published_ms(device, threads)
    logs = np.log([ms / known[name] for name, ms in published.items()])
    left = [np.median(np.delete(logs, at)) - logs[at] for at in range(len(logs))]
    return float(100 * np.median(np.abs(np.expm1(left))))


ERRORS = (
    "| table | networks | one factor: median | transfer: median | mean | family left out: median | mean "
    "| 90 % interval |"
)


def errors_row(path: Path, simple_percent: float) -> str:
    """The row of a table in README.md, each network left out; `simple_percent` by one factor."""
    table = LatencyTable.load(path)
    errors = [100 * abs(one.predicted_ms / one.measured_ms - 1) for one in table.heldout.networks]
    facts = table.measurement
    return (
        f"| {table.name} | {len(errors)} | {simple_percent:.1f} % | {np.median(errors):.1f} % "
        f"| {np.mean(errors):.1f} % | {facts['leave_one_family_out_median_percent']:.1f} % "
        f"| {facts['leave_one_family_out_mape_percent']:.1f} % | x {table.heldout.factor(0.9):.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--errors", action="store_true", help="only print the errors of the tables there")
    parser.add_argument("--by-family", action="store_true", help="only judge the tables there by family")
    parser.add_argument("--only", nargs="*", default=(), help="these tables")
    parser.add_argument("--out", type=Path, default=TABLES, help="folder of the tables")
    arguments = parser.parse_args()
    known = known_ms()
    if arguments.errors:
        print(ERRORS, "|---" * 8 + "|", sep="\n")
    for device, (_, board, precision) in BOARDS.items():
        for threads in (1, 4):
            name = device if threads == 1 else f"{device}-{threads}threads"
            if arguments.only and name not in arguments.only:
                continue
            if arguments.errors:
                print(errors_row(arguments.out / f"{name}.yaml", one_factor_percent(device, threads, known)))
                continue
            file = HERE / "ncnn_measurements" / f"{name}.csv"
            if arguments.by_family:
                judged_by_family(arguments.out / f"{name}.yaml", file)
                continue
            file.parent.mkdir(exist_ok=True)
            write_measurements(device, threads, known, file)
            (arguments.out / f"{name}.yaml").unlink(missing_ok=True)
            code = hwnas(
                [
                    "table", "transfer", "--name", name, "--measurements", str(file), "--board", board,
                    "--source", SOURCE, "--runtime", "ncnn", "--threads", str(threads),
                    "--precision", precision, "--out", str(arguments.out),
                ]
            )  # fmt: skip
            if code:
                sys.exit(code)
            judged_by_family(arguments.out / f"{name}.yaml", file)


if __name__ == "__main__":
    main()
