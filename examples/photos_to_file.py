"""From a folder of photos to a measured file: search, train, export, measure.

    python examples/photos_to_file.py photos out --budget 20ms --epochs 8

`photos` has train/CLASS/*.jpg and val/CLASS/*.jpg (or test).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import hwnas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="rpi4")
    parser.add_argument("--budget", default="20ms")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--side", type=int, default=64)
    given = parser.parse_args()

    classes = sum(folder.is_dir() for folder in (given.photos / "train").iterdir())
    space = hwnas.SearchSpace.load("default").adapted(resolution=given.side, stem_stride=4, classes=classes)
    run = hwnas.search(space, targets={given.device: given.budget}, trials=200, out=given.out / "run")
    print(run)
    model = hwnas.train(
        run.front[0],
        data=given.photos,
        recipe="small",
        overrides={"epochs": given.epochs, "image_size": given.side, "workers": 0},
        run=run,
        out=given.out / "trained",
    )
    print(model, model.evaluate(given.photos))
    file = hwnas.export(model, given.out / "model.onnx", evaluate=given.photos)
    print(file)
    print(hwnas.measure(file, rounds=1))


if __name__ == "__main__":
    main()
