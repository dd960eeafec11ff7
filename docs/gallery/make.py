"""Makes the gallery again: searches every device at hand and writes NAME.yaml and gallery.json here.

    .venv/bin/python docs/gallery/make.py              # all devices, as many processes as there are cores
    .venv/bin/python docs/gallery/make.py rpi4 cpu-x86 # these; the others stay as they are

Run it after a table in `latency_tables` has changed. Each budget is a search of its own, seed 0: what
`hwnas search --device DEVICE --budget TIME` finds as its first network.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import hwnas
from hwnas.gallery import INDEX, Entry, entries
from hwnas.predictors.latency.locate import find_table

HERE = Path(__file__).parent
TABLES = HERE.parents[1] / "latency_tables"
MOST = 3
"""Budgets for one device."""


def budgets_ms(device: str) -> list[float]:
    """1, 2 or 5 times a power of ten, from the fastest published network on; finer where two are too far."""
    table = hwnas.LatencyTable.load(device)
    latencies = [table.predict(hwnas.preset(name)).value for name in hwnas.preset_names()]
    for mantissas in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        series = [float(f"{mantissa * 10.0**power:g}") for power in range(-3, 5) for mantissa in mantissas]
        found = [ms for ms in series if min(latencies) <= ms <= max(latencies)][:MOST]
        if len(found) > 1:
            break
    return found


def network_of(device: str, budget_ms: float) -> tuple[Entry, str]:
    """The network for a budget on a device, and the text of its file."""
    found = hwnas.search(targets={device: budget_ms}, seed=0).front[0]
    table = hwnas.LatencyTable.load(device)
    one = Entry(
        device=device,
        budget_ms=budget_ms,
        id=found.id,
        latency=found.latency,
        provenance=table.provenance,
        table_digest=table.digest,
        accuracy=found.accuracy,
        images_per_s=table.profile.images_per_s(found.latency.value),
        params=found.params,
        macs=found.macs,
        attentions=found.attentions,
    )
    about = f"# Found within {budget_ms:g} ms on {device}: 'hwnas gallery' has its latency and accuracy.\n"
    return one, about + found.arch.to_yaml()


def main() -> None:
    shipped = sorted(file.stem for file in TABLES.glob("*.yaml"))
    for name in shipped:
        if find_table(name).resolve().parent != TABLES:
            sys.exit(f"another table '{name}' hides the one that ships: {find_table(name)}")
    devices = sys.argv[1:] or shipped
    started = time.perf_counter()
    with ProcessPoolExecutor() as pool:
        budgets = list(pool.map(budgets_ms, devices))
        pairs = [(device, ms) for device, own in zip(devices, budgets, strict=True) for ms in own]
        made = list(pool.map(network_of, *zip(*pairs, strict=True)))
    some = bool(sys.argv[1:]) and (HERE / INDEX).exists()
    kept = [one for one in entries() if one.device not in devices] if some else []
    for file in HERE.glob("*.yaml"):
        if file.stem not in {one.name for one in kept}:
            file.unlink()
    for one, text in made:
        (HERE / f"{one.name}.yaml").write_text(text, encoding="utf-8")
    rows = sorted([*kept, *(one for one, _ in made)], key=lambda one: (one.device, one.budget_ms))
    lines = ",\n".join(json.dumps(one.to_dict()) for one in rows)
    (HERE / INDEX).write_text(f'{{"schema": 1, "networks": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(rows)} networks for {len(devices)} devices in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
