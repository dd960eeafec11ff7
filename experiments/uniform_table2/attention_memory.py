"""How many bytes an attention moves: multi-head against reuse (UniForm, tables 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TRANSFORMERS", "Transformer", "multi_head_bytes", "reuse_bytes"]

BYTES_PER_ELEMENT = 2  # half precision, as the paper's table


@dataclass(frozen=True, slots=True)
class Transformer:
    """The sizes of a published transformer that its attention memory depends on."""

    name: str
    tokens: int
    head_dim: int
    heads: int
    layers: int


TRANSFORMERS = (
    Transformer("Llama 2 7B", 4096, 128, 32, 32),
    Transformer("GPT-3", 2048, 128, 96, 96),
    Transformer("ALBERT xxlarge", 512, 64, 64, 12),
    Transformer("BERT Large", 512, 64, 16, 24),
    Transformer("Transformer XL", 512, 64, 16, 18),
    Transformer("T5 Large", 512, 64, 16, 24),
    Transformer("CLIP Text Encoder", 77, 64, 8, 12),
    Transformer("ViT Base", 197, 64, 12, 12),
    Transformer("Stable Diffusion", 77, 64, 12, 16),
)
"""The rows of UniForm's Table 2. The sizes are those that give the printed figures; for Stable
Diffusion they were found by search, and only layers times bytes is certain."""


def multi_head_bytes(transformer: Transformer, *, bytes_per_element: int = BYTES_PER_ELEMENT) -> int:
    """Bytes moved by h attention matrices: 4 h (N^2 + N d) elements a layer (UniForm, Table 1)."""
    t = transformer
    elements = 4 * t.heads * (t.tokens**2 + t.tokens * t.head_dim)
    return bytes_per_element * t.layers * elements


def reuse_bytes(transformer: Transformer, *, bytes_per_element: int = BYTES_PER_ELEMENT) -> int:
    """Bytes moved by one attention matrix for all heads: 4 (N^2 + N d h) elements a layer."""
    t = transformer
    elements = 4 * (t.tokens**2 + t.tokens * t.head_dim * t.heads)
    return bytes_per_element * t.layers * elements
