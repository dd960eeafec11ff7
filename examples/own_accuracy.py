"""Searches with an accuracy function of one's own, within budgets on two devices.

python examples/own_accuracy.py
"""

from __future__ import annotations

import math

import hwnas
from hwnas.space import count_macs, count_params, lower


def accuracy(arch: hwnas.ArchSpec) -> hwnas.Estimate:
    """A rule of thumb in %: larger networks are more accurate. Replace it by what you know."""
    ops = lower(arch)
    value = 40 + 4 * math.log2(count_macs(ops) / 1e7) + math.log2(count_params(ops) / 1e6)
    return hwnas.Estimate(value, std=2.0, unit="%")


def main() -> None:
    run = hwnas.search(
        targets={"rpi4": "20ms", "rpi5": "8ms"},
        limits={"params": 6e6},
        accuracy=accuracy,
        trials=200,
        seed=0,
    )
    print(run)
    for network in run.front[:5]:
        print(network.id, network.accuracy, network.latency, network.attentions)


if __name__ == "__main__":
    main()
