"""load_published: weights as timm and the authors publish them, in a network of hwnas.

The tables below turn a name of ours into the published one, by the patterns of the family, in
order. All of them are applied; what none matches keeps its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from hwnas.errors import FileFormatError, UsageError
from hwnas.nn.network import Network, build
from hwnas.space.presets import preset_info

__all__ = ["load_published", "published_key"]

_Patterns = tuple[tuple[str, str], ...]

_SHARED: _Patterns = (
    (r"\.norm\.(?=weight|bias|running|num)", ".bn."),
    (r"\.(dw\d?)\.conv\.", r".\1.m."),
    (r"\.(ffn\d?)\.expand\.", r".\1.m.pw1."),
    (r"\.(ffn\d?)\.reduce\.", r".\1.m.pw2."),
    (r"\.merge\.expand\.", ".merge.conv1."),
    (r"\.merge\.local\.", ".merge.conv2."),
    (r"\.merge\.reduce\.", ".merge.conv3."),
)

_SANDWICH: _Patterns = (
    *_SHARED,
    (r"^stem\.0\.", "patch_embed.conv1."),
    (r"^stem\.2\.", "patch_embed.conv2."),
    (r"^stem\.4\.", "patch_embed.conv3."),
    (r"^stem\.6\.", "patch_embed.conv4."),
    (r"downsample\.(dw|ffn)0\.", r"downsample.res1.\1."),
    (r"downsample\.(dw|ffn)1\.", r"downsample.res2.\1."),
    (r"(res\d)\.dw\.", r"\1.0."),
    (r"(res\d)\.ffn\.", r"\1.1."),
    (r"\.merge\.", ".patchmerge."),
    (r"\.attention\.", ".mixer.m.attn."),
    (r"\.bias\.table$", ".attention_biases"),
    (r"\.query_key(_value)?\.", ".qkvs."),
    (r"\.query_local\.", ".dws."),
    (r"\.output\.1\.", ".proj.1."),
)

_PUBLISHED: Mapping[str, _Patterns] = {
    # timm.models.efficientvit_msra
    "efficientvit": (
        *_SANDWICH,
        (r"\.gate\.squeeze\.", ".se.fc1."),
        (r"\.gate\.excite\.", ".se.fc2."),
    ),
    # the authors' backbone with a head as EfficientViT's
    "uniform": (
        *_SANDWICH,
        (r"\.gate\.squeeze\.", ".se.conv1.conv."),
        (r"\.gate\.excite\.", ".se.conv2.conv."),
        (r"\.value_scales\.", ".mix."),
    ),
    # timm.models.shvit
    "shvit": (
        (r"\.attention\.norm\.", ".mixer.m.pre_norm."),
        *_SHARED,
        (r"^stem\.", "patch_embed."),
        (r"downsample\.dw0\.", "downsample.0."),
        (r"downsample\.ffn0\.", "downsample.1."),
        (r"downsample\.merge\.", "downsample.2."),
        (r"downsample\.dw1\.", "downsample.3."),
        (r"downsample\.ffn1\.", "downsample.4."),
        (r"\.gate\.squeeze\.", ".se.fc1."),
        (r"\.gate\.excite\.", ".se.fc2."),
        (r"\.dw\.m\.", ".conv.m."),
        (r"\.attention\.query_key_value\.", ".mixer.m.qkv."),
        (r"\.attention\.output\.1\.", ".mixer.m.proj.1."),
        (r"\.conv\.weight$", ".c.weight"),
        (r"^head\.linear\.", "head.l."),
    ),
    # the authors' code of July 2024
    "elevit": (
        (r"^stem\.conv0\.conv\.", "stem.0."),
        (r"^stem\.conv0\.norm\.", "stem.1."),
        (r"^stem\.conv1\.conv\.", "stem.4."),
        (r"^stem\.conv1\.norm\.", "stem.5."),
        (r"^stages\.0\.blocks\.", "attn1."),
        (r"^stages\.1\.blocks\.", "attn2."),
        (r"^stages\.2\.blocks\.", "attn3."),
        (r"^stages\.3\.blocks\.", "attn4."),
        (r"^stages\.(\d)\.downsample\.conv\.", r"embed\1.proj."),
        (r"^stages\.(\d)\.downsample\.norm\.", r"embed\1.norm."),
        (r"\.ffn\.local\.conv\.", ".conv.dwconv."),
        (r"\.ffn\.local\.norm\.", ".conv.norm."),
        (r"\.ffn\.expand\.", ".conv.pwconv1."),
        (r"\.ffn\.reduce\.", ".conv.pwconv2."),
        (r"\.attention\.alpha$", ".attn.focusing_factor"),
        (r"\.attention\.query_key_value\.conv\.", ".attn.qkv_conv.0."),
        (r"\.attention\.query_key_value\.norm\.", ".attn.qkv_conv.1."),
        (r"\.attention\.output\.", ".attn.proj."),
        (r"^head\.linear\.", "head."),
        (r"^head\.distilled\.", "dist_head."),
    ),
}

_WITHOUT_WEIGHTS = ("elevit-paper", "uniform-t-paper")  # read from papers; nobody has published any


def load_published(name: str, state: Mapping[str, Tensor]) -> Network:
    """The preset `name` with published weights, in eval mode and in the weights' own precision.

    `state` has the keys of timm's models (EfficientViT, SHViT) or of the authors' code (UniForm,
    EleViT). The number of classes is that of the head in `state`; counters of BatchNorm batches may
    be missing. Raises UsageError for a preset without published weights, and FileFormatError
    that lists every key that is missing, unknown or of another shape.
    """
    info = preset_info(name)
    if info.family not in _PUBLISHED or name in _WITHOUT_WEIGHTS:
        raise UsageError(f"'{name}' has no published weights: its authors released no such network")
    _check_tensors(state)
    network = build(info.arch.adapted(classes=_classes(info.family, state, info.arch.classes)))
    ours = network.state_dict()
    published = {key: published_key(info.family, key) for key in ours}
    _check_keys(name, {published[key]: weight for key, weight in ours.items()}, state)
    network.to(next(weight.dtype for weight in state.values() if weight.is_floating_point()))
    network.load_state_dict(
        {key: state[theirs] for key, theirs in published.items() if theirs in state}, strict=False
    )
    return network.eval()


def published_key(family: str, key: str) -> str:
    """What the family's published implementation calls our weight `key`."""
    for pattern, replacement in _PUBLISHED[family]:
        key = re.sub(pattern, replacement, key)
    return key


def _classes(family: str, state: Mapping[str, Tensor], default: int) -> int:
    head = state.get(published_key(family, "head.linear.weight"))
    return default if head is None or head.ndim != 2 else head.shape[0]


def _check_tensors(state: Mapping[str, object]) -> None:
    for key, value in state.items():
        if not isinstance(value, Tensor):
            inside = f" Is it inside, as state['{key}']?" if isinstance(value, Mapping) else ""
            raise FileFormatError(
                f"a state dict maps names to tensors, got {type(value).__name__} for '{key}'.{inside}"
            )


def _check_keys(name: str, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    problems = [
        *_listed("missing", [key for key in wanted if key not in state and key not in counters]),
        *_listed("unknown", [key for key in state if key not in wanted]),
        *_listed(
            "of another shape",
            [
                f"{key} {tuple(state[key].shape)} instead of {tuple(weight.shape)}"
                for key, weight in wanted.items()
                if key in state and state[key].shape != weight.shape
            ],
        ),
    ]
    if problems:
        raise FileFormatError(f"the weights do not fit '{name}':\n" + "\n".join(problems))


def _listed(what: str, keys: Iterable[str]) -> list[str]:
    keys = list(keys)
    return [f"{len(keys)} {what}: {', '.join(keys)}"] if keys else []
