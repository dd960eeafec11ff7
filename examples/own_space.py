"""Searches a space of one's own: reuse attention only, at 160 pixels.

python examples/own_space.py
"""

from __future__ import annotations

import hwnas


def main() -> None:
    space = hwnas.SearchSpace.load("default").adapted(resolution=160)
    settings = space.to_dict()
    attention = [one for one in settings["attention"] if one == "none" or one["type"] == "reuse"]
    own = hwnas.SearchSpace.from_dict({**settings, "name": "reuse-160", "attention": attention})
    run = hwnas.search(own, targets={"rpi4": "15ms"}, trials=200, seed=0)
    print(run)
    best = run.front[0]
    print(best.arch.to_yaml())
    print(best.latency, best.accuracy)


if __name__ == "__main__":
    main()
