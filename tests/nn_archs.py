"""Small architectures that between them run every kind of op, and every option of the attentions."""

from __future__ import annotations

from hwnas.space import ArchSpec, CascadedGroup, ElementWise, Head, Reuse, SingleHead, Stage, Stem

PADDED_WINDOWS = ArchSpec(  # sides 20 and 10: windows of 7 padded to 21, windows of 4 padded to 12
    resolution=40,
    stem=Stem(stride=2),
    head=Head(classes=10),
    stages=(
        Stage(8, (Reuse(2, (3, 5)), CascadedGroup(2, (3, 5), key_dim=4))),
        Stage(
            12,
            (Reuse(3, (1, 3, 5), variant="paper", window=4), Reuse(1, (7,), query_kernel=3), SingleHead(5)),
        ),
    ),
)
SHVIT_LIKE = ArchSpec(
    resolution=32,
    stem=Stem(stride=4),
    head=Head(classes=10),
    stages=(
        Stage(8, (None,), "dw-attention-ffn"),
        Stage(16, (SingleHead(6), SingleHead(4, key_dim=8)), "dw-attention-ffn", ffn_ratio=3),
    ),
)
ELEMENT_WISE = ArchSpec(
    resolution=32,
    stem=Stem(stride=4),
    head=Head(classes=10),
    stages=(
        Stage(8, (ElementWise(), ElementWise(softmax="tokens", gate=False))),
        Stage(12, (ElementWise(swap_key=False, scale_channels_over=2), ElementWise(projections="dense"))),
    ),
)
ELEVIT_LIKE = ArchSpec(
    resolution=48,
    stem=Stem("conv-pool", 4),
    head=Head("dual", 10),
    stages=(
        Stage(
            8, (ElementWise(projections="dense", output="dense", scale_channels_over=4),), "ffn-attention", 1
        ),
        Stage(12, (ElementWise(output="none", softmax="tokens"),), "ffn-attention", 4, "conv-pool"),
    ),
)
SMALL = {
    "padded-windows": PADDED_WINDOWS,
    "shvit-like": SHVIT_LIKE,
    "element-wise": ELEMENT_WISE,
    "elevit-like": ELEVIT_LIKE,
}
