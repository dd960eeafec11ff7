"""hwnas's export beside timm's plain export and beside UniForm's graph head by head, in one run.

    python benchmarks/export_latency.py [--threads 1 2] [--rounds N] [--models NAME ...] [--json FILE]

Every network is exported twice with the same weights: by `hwnas export`, and by torch.onnx.export of
timm's model in eval mode (EfficientViT, SHViT) or of a straightforward reuse attention (UniForm). Both
files run in ONNX Runtime with all its optimisations, in turns, round by round, so that the machine's
speed is the same for both; which goes first changes from round to round. Told are the medians and the
median of the rounds' ratios with its 95 % interval: 0.95 is 5 % less time. Run it alone.
"""

from __future__ import annotations

import io
import time
import warnings
from typing import Any

import latency_output as output
import numpy as np
import torch
from literal_uniform import literal
from torch import nn

from hwnas.board.timing import median, median_interval
from hwnas.errors import HwnasError
from hwnas.export.deployment_graph import deployed
from hwnas.export.onnx_graph import OPSET, network_graph, reference_graph
from hwnas.export.timing import one_thread
from hwnas.export.timing.random_weights import randomise
from hwnas.nn.network import Network, build
from hwnas.nn.published import load_published
from hwnas.runtimes import onnxruntime as runtime
from hwnas.space import preset, preset_info, preset_names

_FAMILIES = ("efficientvit", "shvit", "uniform")
_TIMM = {"efficientvit": "efficientvit_{}", "shvit": "shvit_{}"}
_MAX_DIFFERENCE = 1e-4  # of logits, over the largest


def pair(name: str) -> tuple[Network, nn.Module]:
    """hwnas's network and the other implementation, with the same weights, in eval mode."""
    family = preset_info(name).family
    if family == "uniform":
        network = randomise(build(preset(name))).eval()
        return network, literal(network)
    import timm

    other = timm.create_model(_TIMM[family].format(name.rpartition("-")[2]), pretrained=False)
    randomise(other)
    return load_published(name, other.state_dict()), other.eval()


def plain_export(module: nn.Module, side: int) -> bytes:
    """What torch's own exporter writes, with its defaults for a network in eval mode."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, side, side),),
            file,
            input_names=["images"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()


def side_by_side(name: str, threads: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """A row for each number of threads."""
    network, other = pair(name)
    side = network.arch.resolution
    models = {
        "plain": plain_export(other, side),
        "hwnas": network_graph(deployed(network, "onnxruntime", "fp32")),
    }
    if preset_info(name).family == "uniform":
        models["published form"] = reference_graph(network)
    rows = []
    for count in threads:
        sessions = {
            key: runtime.prepare(data, threads=count, batch=1, precision="fp32")
            for key, data in models.items()
        }
        ours, theirs = (np.asarray(sessions[key].outputs()[0]) for key in ("hwnas", "plain"))
        difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        if not difference <= _MAX_DIFFERENCE:
            raise HwnasError(f"{name}: both exports must compute the same, they differ by {difference:.1e}")
        samples = _in_turns(sessions, rounds)
        ratios = tuple(a / b for a, b in zip(samples["hwnas"], samples["plain"], strict=True))
        low, high = median_interval(ratios)
        rows.append(
            {
                "network": name,
                "threads": count,
                "plain_ms": median(samples["plain"]),
                "hwnas_ms": median(samples["hwnas"]),
                "published_form_ms": median(samples["published form"]) if len(samples) > 2 else None,
                "ratio": median(ratios),
                "ratio_low": low,
                "ratio_high": high,
                "logits_differ": difference,
            }
        )
        for session in sessions.values():
            session.close()
    return rows


def _in_turns(sessions: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of one run, one a round; a tenth of the rounds before them is thrown away."""
    order = list(sessions)
    samples: dict[str, list[float]] = {key: [] for key in order}
    for number in range(-max(5, rounds // 10), rounds):
        order.append(order.pop(0))
        for key in order:
            run = sessions[key].run
            run()  # its own data into the caches
            start = time.perf_counter_ns()
            run()
            run()
            if number >= 0:
                samples[key].append((time.perf_counter_ns() - start) / 2e6)
    return samples


def main() -> None:
    parser = output.parser(__doc__)
    known = [
        name
        for name in preset_names()
        if preset_info(name).family in _FAMILIES and not name.endswith(("-paper", "-table4"))
    ]
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--models", nargs="+", choices=known, default=known, metavar="NAME")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with one_thread():
        for name in options.models:
            rows += side_by_side(name, tuple(options.threads), options.rounds)
            output.say(f"{name}: hwnas / plain {rows[-1]['ratio']:.3f}")
    columns = ("network", "threads", "plain ms", "hwnas ms", "published form ms", "ratio", "95 % from", "to")
    keys = (
        "network",
        "threads",
        "plain_ms",
        "hwnas_ms",
        "published_form_ms",
        "ratio",
        "ratio_low",
        "ratio_high",
    )
    shown = output.grid(
        "plain: torch.onnx.export of timm's model, or of UniForm head by head",
        columns,
        [[row[key] for key in keys] for row in rows],
    )
    output.answer(
        {"environment": {"onnxruntime": runtime.probe()["version"]}, "rows": rows}, [shown], options.json
    )


if __name__ == "__main__":
    output.run(main)
