"""The table of all devices in latency_tables/README.md, from the tables that ship.

python experiments/board_profiles/evidence.py            # writes it between its markers
python experiments/board_profiles/evidence.py --check    # exit code 1 where it is not current
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwnas.predictors.latency.profile import INFERABLE
from hwnas.predictors.latency.table import LatencyTable

TABLES = Path(__file__).resolve().parent.parent.parent / "latency_tables"
README = TABLES / "README.md"
BEGIN = "<!-- Written by python experiments/board_profiles/evidence.py: begin -->"
END = "<!-- end -->"
COLUMNS = (
    "device", "provenance", "source", "known", "inferred", "one left out", "family left out",
    "other publications: median error (in the interval)", "90 % interval",
)  # fmt: skip
SETTINGS = ("runtime", "threads", "batch", "precision")


def rows() -> Iterator[str]:
    """A line a device, in the order of their names."""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + "---|" * len(COLUMNS)
    for path in sorted(TABLES.glob("*.yaml")):
        yield _row(LatencyTable.load(path))


def _row(table: LatencyTable) -> str:
    facts, profile = table.measurement, table.profile
    cells = [
        f"`{table.name}`",
        table.provenance,
        _source(table),
        ", ".join(_setting(table, name) for name in SETTINGS if name not in profile.inferred)
        or "the board only",
        "; ".join(
            f"{name} {getattr(profile, name)}".removesuffix(" unknown")
            for name in INFERABLE
            if name in profile.inferred
        )
        or "nothing",
        _percent(facts.get("leave_one_out_mape_percent", _left_out(table))),
        _percent(facts.get("leave_one_family_out_mape_percent")),
        _others(facts.get("out_of_sample", {})) or "none",
        f"x {table.heldout.factor(0.9):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _source(table: LatencyTable) -> str:
    """Who timed what, where: a publication, or this project's own build."""
    if table.provenance != "measured":
        return str(table.measurement["source"]).partition(":")[0]
    cpu = table.environment.get("cpu") or table.profile.board
    return f"timed op by op on {cpu}, {table.created}"


def _setting(table: LatencyTable, name: str) -> str:
    """A field that the source states."""
    profile = table.profile
    if name == "runtime":
        return f"{profile.runtime} {profile.runtime_version}".removesuffix(" unknown")
    value = getattr(profile, name)
    plural = "s" if name == "threads" and value != 1 else ""
    return {"threads": f"{value} thread{plural}", "batch": f"batch {value}"}.get(name, str(value))


def _left_out(table: LatencyTable) -> float | None:
    """The error of each network left out, where that is what the table's evidence is."""
    by_network = table.provenance == "measured" or "transfer" in table.measurement
    return table.heldout.mape_percent if by_network else None


def _percent(value: Any) -> str:
    return "-" if value is None else f"{float(value):.1f} %"


def _others(sources: Any) -> str:
    return "; ".join(
        f"{name} {facts['median_percent']:.0f} % ({facts['in_90_percent_interval_percent']:.0f} % of "
        f"{facts['networks']}{_own_interval(facts)})"
        for name, facts in sources.items()
    )


def _own_interval(facts: Any) -> str:
    """The factor with which the interval holds a source that it holds too rarely."""
    factor = facts.get("own_interval_factor")
    return "" if factor is None else f"; there the interval is x {factor:.2f}"


def written(text: str) -> str:
    """The README with the table between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        sys.exit(f"{README}: the markers are missing: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n" + "\n".join(rows()) + f"\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say whether it is current")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    new = written(text)
    if arguments.check:
        sys.exit(0 if new == text else f"{README} is not current: run {Path(sys.argv[0]).name}")
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
