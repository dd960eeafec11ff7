"""The table of estimated devices in latency_tables/README.md, from the tables that ship.

python experiments/board_profiles/evidence.py            # writes it between its markers
python experiments/board_profiles/evidence.py --check    # exit code 1 where it is not current
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwnas.predictors.latency.table import LatencyTable

TABLES = Path(__file__).resolve().parent.parent.parent / "latency_tables"
README = TABLES / "README.md"
BEGIN = "<!-- Written by python experiments/board_profiles/evidence.py: begin -->"
END = "<!-- end -->"


def rows() -> Iterator[str]:
    """A line a device, in the order of their names."""
    yield (
        "| device | source | runtime, threads, batch, precision | inferred | one left out | family left out "
        "| other publications: median error (in the interval) | 90 % interval |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for path in sorted(TABLES.glob("*.yaml")):
        table = LatencyTable.load(path)
        if table.provenance == "estimated":
            yield _row(table)


def _row(table: LatencyTable) -> str:
    facts, profile = table.measurement, table.profile
    settings = ", ".join(
        [
            f"{profile.runtime} {profile.runtime_version}".removesuffix(" unknown"),
            str(profile.threads),
            str(profile.batch),
            profile.precision,
        ]
    )
    cells = [
        f"`{table.name}`",
        str(facts["source"]).partition(":")[0],
        settings,
        ", ".join(profile.inferred) or "nothing",
        _percent(facts.get("leave_one_out_mape_percent", _left_out(table))),
        _percent(facts.get("leave_one_family_out_mape_percent")),
        _others(facts.get("out_of_sample", {})) or "none",
        f"x {table.heldout.factor(0.9):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _left_out(table: LatencyTable) -> float | None:
    """The error of each network left out, where that is what the table's evidence is."""
    return table.heldout.mape_percent if "transfer" in table.measurement else None


def _percent(value: Any) -> str:
    return "-" if value is None else f"{float(value):.1f} %"


def _others(sources: Any) -> str:
    return "; ".join(
        f"{name} {facts['median_percent']:.0f} % ({facts['in_90_percent_interval_percent']:.0f} % of "
        f"{facts['networks']})"
        for name, facts in sources.items()
    )


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
