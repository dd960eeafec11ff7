"""The graph that is deployed: which form each kind of op takes on a runtime, and networks and ops in it.

Op models, whole-network models, `hwnas measure`, `search --verify` and `hwnas export` all use this one graph.
It is made op by op, so a network's graph is its ops' graphs one after the other, and a row of a latency table
is a piece of the exported file. The reference graph (`fold` alone) is for counting and for comparing with the
papers; nothing times it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from hwnas.export.forms import REFERENCE, in_form
from hwnas.nn.folding import fold
from hwnas.nn.network import Network
from hwnas.predictors.latency.measurements import GRAPH

__all__ = ["FORMS", "GRAPH", "deployed", "formed", "formed_op", "forms_of"]

_FEWEST_NODES = {
    "dw": "merged",
    "reuse": "merged",
    "cascaded-group": "tokens",
    "single-head": "tokens",
}

# The number in GRAPH, which tables and measurements note, grows when a form below, or what a form does,
# changes: those of an earlier graph were measured on other nodes.
#
# Milliseconds of whole networks, batch 1, one thread of an Intel Xeon with AVX-512, all forms interleaved in
# one process, nothing else running. refer.: all ops in their reference form; dw: depthwise convolutions
# merged; all: the attention as well, in the form that it has in _FEWEST_NODES.
#
#                                     uniform-t              efficientvit-m0        shvit-s1
#                                     refer. dw     all      refer. dw     all      refer. dw     all
#   onnxruntime 1.32    fp32          1.596  1.582  1.533    1.994  1.964  1.945    3.831  3.878  3.733
#   onnxruntime 1.32    int8          1.438  1.395  1.330    2.063  2.071  2.008    2.122  2.122  2.089
#   openvino 2026.4     fp32          1.795  1.795  1.707    2.342  2.336  2.097    4.733  4.582  4.499
#   ncnn 1.0.20261020   fp32          1.812  1.818  1.830    2.234  2.204  -        5.842  5.920  -
#   torch 2.14          fp32          8.349  8.246  5.943    10.90  10.42  9.785    10.33  10.16  10.08
#
# On ncnn no form gains anything. A depthwise convolution has the merged form, which is a layer and a map
# less, attentions the reference form; ncnn has no 1x1 convolution of (C, N).
FORMS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("onnxruntime", "fp32"): _FEWEST_NODES,
    ("onnxruntime", "int8"): _FEWEST_NODES,
    ("openvino", "fp32"): _FEWEST_NODES,
    ("openvino", "int8"): _FEWEST_NODES,  # reads the file that is exported for onnxruntime
    ("ncnn", "fp32"): {"dw": "merged"},
    ("litert", "fp32"): {"dw": "merged"},
    ("torch", "fp32"): _FEWEST_NODES,
}
"""By runtime and precision: the form of each op kind; one that is not named keeps its reference form."""


def forms_of(runtime: str, precision: str) -> Mapping[str, str]:
    """The line of FORMS for a runtime.

    A precision that has none is deployed as fp32 is; a runtime that has none, one of another package,
    as ONNX Runtime is.
    """
    known = runtime if (runtime, "fp32") in FORMS else "onnxruntime"
    return FORMS.get((known, precision), FORMS[known, "fp32"])


def deployed(network: Network, runtime: str, precision: str) -> Network:
    """A copy in eval mode with the nodes that `runtime` gets; gives what `network` gives in eval mode."""
    return formed(fold(network), runtime, precision)


@torch.no_grad()
def formed(folded: Network, runtime: str, precision: str) -> Network:
    """The folded network itself, each of its ops in the form that `runtime` gets."""
    for op in folded.ops:
        parent, _, name = op.place.rpartition(".")
        module = formed_op(folded.get_submodule(op.place), op.kind, runtime, precision)
        setattr(folded.get_submodule(parent), name, module)
    return folded


@torch.no_grad()
def formed_op(folded: nn.Module, kind: str, runtime: str, precision: str) -> nn.Module:
    """What `formed` makes of one folded op."""
    return in_form(folded, kind, forms_of(runtime, precision).get(kind, REFERENCE))
