"""Shared weights: which slices a network is, what its gradients reach, and BatchNorm for one network."""

from __future__ import annotations

import dataclasses
import random

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from supernet_samples import SPACE
from torch import nn
from torch.func import functional_call

from hwnas.errors import UsageError
from hwnas.nn import build
from hwnas.space import ArchSpec, CascadedGroup, Reuse, SearchSpace, Stage, preset
from hwnas.space.search_space import AttentionOption
from hwnas.supernet.evaluator import recalibrate
from hwnas.supernet.sandwich import Sandwich
from hwnas.supernet.slices import Piece, pieces
from hwnas.supernet.weights import SharedWeights, SubnetCache, empty_network

WEIGHTS = SharedWeights.fresh(SPACE, seed=0)


def drawn(count: int, space: SearchSpace = SPACE) -> list[ArchSpec]:
    rng = random.Random(0)
    return [space.sample(rng) for _ in range(count)]


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def of_one_kind(attention: object, width: int) -> ArchSpec:
    """A network of the small space whose first block attends like this."""
    arch = next(arch for arch in drawn(99) if arch.stages[0].layout == "dw-attention-ffn")
    first = Stage(width=width, blocks=(attention,), layout="dw-attention-ffn")  # type: ignore[arg-type]
    return dataclasses.replace(arch, stages=(first, *arch.stages[1:]))


def test_a_sliced_network_is_the_stand_alone_one_with_the_same_weights() -> None:
    networks = SubnetCache(WEIGHTS)
    for arch in drawn(12):
        alone = build(arch).to(memory_format=torch.channels_last)
        missing, unexpected = alone.load_state_dict(WEIGHTS.subnet_state_dict(arch), strict=False)
        assert not unexpected
        assert all(name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
                   for name in missing), "BatchNorm's statistics alone are not shared"  # fmt: skip
        sliced, _ = networks.network(arch)
        assert torch.equal(sliced(images()), alone.train()(images()))


def test_a_network_made_without_initialising_is_like_any_other() -> None:
    for arch in drawn(6):
        empty, full = empty_network(arch), build(arch).to(memory_format=torch.channels_last)
        empty.load_state_dict(full.state_dict())
        assert torch.equal(empty.eval()(images()), full.eval()(images()))


@pytest.mark.parametrize("name", ["tiny", "small-images"])
def test_every_network_of_a_space_can_be_cut_from_its_weights(name: str) -> None:
    space = SPACE if name == "tiny" else SearchSpace.from_yaml(name)
    space = dataclasses.replace(space, resolution=space.resolution[-1:], stages=space.stages[:2])
    weights = WEIGHTS if name == "tiny" else SharedWeights.fresh(space, seed=0)
    short = [weights.lacks(arch) for arch in drawn(150, space)]
    assert not any(short)


def test_a_network_of_another_space_is_refused_with_what_is_missing() -> None:
    with pytest.raises(
        UsageError, match=r"not in the space of the supernet.* the first: stem.*nothing is shared"
    ):
        WEIGHTS.subnet_state_dict(preset("uniform-t"))
    wider = of_one_kind(Reuse(heads=2, kernels=(3, 5), query_kernel=3), 32)
    with pytest.raises(
        UsageError, match=r"the first: stem\.0\.conv\.weight: needs \(16, 3, 3, 3\), there is \(12, 3, 3, 3\)"
    ):
        WEIGHTS.subnet_state_dict(wider)


def test_query_and_key_are_sliced_apart_and_each_heads_kernel_stays_with_its_channels() -> None:
    width = 16
    state = WEIGHTS.subnet_state_dict(of_one_kind(Reuse(heads=2, kernels=(3, 5), query_kernel=3), width))
    shared = {name: tensor.detach() for name, tensor in WEIGHTS.tensors.items()}
    own, slot = "stages.0.blocks.0.attention", "stages.0.blocks.0[reuse].attention"
    queries_keys = state[f"{own}.query_key.conv.weight"]  # (2 * 4, 16, 1, 1)
    query, key = (shared[f"{slot}.query_key.conv.weight/{part}"] for part in ("query", "key"))
    assert query.shape == key.shape == (6, 24, 1, 1), "a quarter of the largest width each"
    assert torch.equal(queries_keys, torch.cat([query[:4, :16], key[:4, :16]]))
    kernels = shared[f"{slot}.value_scales.weight"]
    assert kernels.shape == (24, 1, 7, 7)
    assert torch.equal(state[f"{own}.value_scales.1.weight"], kernels[8:16, :, 1:6, 1:6])
    assert torch.equal(state[f"{own}.query_local.conv.weight"][:, 0], shared[
        f"{slot}.query_local.conv.weight"][:4, 0, 2:5, 2:5])  # fmt: skip


def test_a_cascaded_head_reads_and_gives_its_own_channels_of_the_map() -> None:
    state = WEIGHTS.subnet_state_dict(
        of_one_kind(CascadedGroup(heads=4, kernels=(5, 5, 3, 3), key_dim=4), 16)
    )
    shared = {name: tensor.detach() for name, tensor in WEIGHTS.tensors.items()}
    own, slot = "stages.0.blocks.0.attention", "stages.0.blocks.0[cascaded-group].attention"
    whole = f"{slot}.query_key_value.conv.weight"
    third = state[f"{own}.query_key_value.2.conv.weight"]  # (4 + 4 + 4, 4, 1, 1)
    expected = [shared[f"{whole}/query"][:4, 8:12], shared[f"{whole}/key"][:4, 8:12]]
    assert torch.equal(third, torch.cat([*expected, shared[f"{whole}/value"][8:12, 8:12]]))
    norms = [f"{slot}.query_key_value.{head}.norm.weight/query" for head in range(4)]
    kept = {head: shared[name].shape for head, name in enumerate(norms)}
    assert kept == {0: (16,), 1: (16,), 2: (4,), 3: (4,)}, "a head's own: two heads have 16 keys, four have 4"


def test_a_smaller_window_has_the_same_bias_for_the_same_distance() -> None:
    larger = dataclasses.replace(SPACE, resolution=(16, 24))
    weights = SharedWeights.fresh(larger, seed=0)
    name = "stages.0.blocks.0[reuse].attention.bias.table"
    with torch.no_grad():
        for row in range(6):
            for column in range(6):
                weights.tensors[name][:, row, column] = 10 * row + column
    arch = of_one_kind(Reuse(heads=2, kernels=(3, 5), query_kernel=3), 16)
    for resolution, side in ((16, 4), (24, 6)):
        table = weights.subnet_state_dict(arch.adapted(resolution=resolution))[
            "stages.0.blocks.0.attention.bias.table"
        ]
        expected = torch.tensor([10.0 * row + column for row in range(side) for column in range(side)])
        assert torch.equal(table, expected.expand(2, -1))


def test_gradients_reach_the_slices_that_were_used_and_nothing_else() -> None:
    """The reference is autograd through the slicing itself."""
    networks = SubnetCache(WEIGHTS)
    for arch in drawn(8):
        labels = torch.arange(6) % 3
        cut = {
            name: torch.cat([piece.of(WEIGHTS.tensors[piece.slot]) for piece in some]).reshape(shape)
            for name, shape, some in pieces(arch)
        }
        logits = functional_call(empty_network(arch).train(), cut, (images(),))
        expected = torch.autograd.grad(
            F.cross_entropy(logits, labels), list(WEIGHTS.tensors.values()), allow_unused=True
        )
        network, forward = networks.network(arch)
        F.cross_entropy(forward(images()), labels).backward()
        for tensor in WEIGHTS.tensors.values():
            tensor.grad = None
        WEIGHTS.add_gradients(network, arch)
        used = {piece.slot for _, _, some in pieces(arch) for piece in some}
        for (name, tensor), wanted in zip(WEIGHTS.tensors.items(), expected, strict=True):
            if name not in used:
                assert tensor.grad is None and wanted is None, name
            elif wanted is not None:
                assert tensor.grad is not None
                assert torch.allclose(tensor.grad, wanted, atol=1e-6), name
            else:  # a parameter that the network has and does not use
                assert tensor.grad is None or not tensor.grad.any(), name
        assert any(tensor.grad is not None and tensor.grad.any() for tensor in WEIGHTS.tensors.values())


def test_gradients_of_several_networks_add_up() -> None:
    networks, (one, other) = SubnetCache(WEIGHTS), drawn(2)

    def gradients(*archs: ArchSpec) -> dict[str, torch.Tensor]:
        for tensor in WEIGHTS.tensors.values():
            tensor.grad = None
        for arch in archs:
            network, forward = networks.network(arch)
            forward(images()).square().sum().backward()
            WEIGHTS.add_gradients(network, arch)
        return {
            name: torch.zeros_like(t) if t.grad is None else t.grad for name, t in WEIGHTS.tensors.items()
        }

    together, first, second = gradients(one, other), gradients(one), gradients(other)
    for name, gradient in together.items():
        assert torch.allclose(gradient, first[name] + second[name], atol=1e-4), name


def test_blocks_of_different_attention_types_share_nothing() -> None:
    def slots(option: AttentionOption) -> set[str]:
        stages = tuple(
            Stage(width=16, blocks=(option.fitted(16),) * 2, layout="dw-attention-ffn") for _ in range(2)
        )
        arch = dataclasses.replace(drawn(1)[0], stages=stages)
        return {piece.slot for name, _, some in pieces(arch) if ".blocks." in name for piece in some}

    by_type: dict[str, set[str]] = {}
    for option in SPACE.stages[0].attention:
        type_ = "none" if option.attention is None else option.attention.type
        by_type.setdefault(type_, set()).update(slots(option))
    assert len(by_type) == 5
    for one, mine in by_type.items():
        for other, theirs in by_type.items():
            assert one == other or not mine & theirs
    two_heads, four_heads = (
        slots(option)
        for option in SPACE.stages[0].attention
        if getattr(option.attention, "type", "") == "reuse"
    )
    assert two_heads == four_heads, "of one type, everything is shared"


def test_a_piece_is_the_leading_channels_and_the_middle_of_the_kernel() -> None:
    shared = torch.arange(2 * 25.0).view(2, 1, 5, 5)
    piece = Piece("x", ((1, 1), (0, 1), (None, 3), (None, 3)))
    assert piece.of(shared).flatten().tolist() == [31, 32, 33, 36, 37, 38, 41, 42, 43]
    assert piece.extent == (2, 1, 3, 3)


def test_recalibrated_statistics_are_those_of_each_batch_averaged() -> None:
    arch = drawn(1)[0]
    network = build(arch)
    batches = [images(8), 2 * images(8) + 1, images(8) - 0.5]
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def watch(name: str) -> object:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            axes = tuple(axis for axis in range(inputs[0].ndim) if axis != 1)
            seen.setdefault(name, []).append((inputs[0].mean(axes), inputs[0].var(axes)))

        return hook

    norms = {n: m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(watch(name))  # type: ignore[arg-type]
    recalibrate(network, batches)
    assert not network.training and len(norms) > 10
    for name, norm in norms.items():
        mean, var = (torch.stack(some).mean(0) for some in zip(*seen[name], strict=True))
        assert norm.running_mean is not None and norm.running_var is not None
        assert torch.allclose(norm.running_mean, mean, atol=1e-5), name
        assert torch.allclose(norm.running_var, var, atol=1e-5, rtol=1e-4), name
        assert norm.momentum == 0.1, "as it was before"


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    again, other = SharedWeights.fresh(SPACE, seed=0), SharedWeights.fresh(SPACE, seed=1)
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in WEIGHTS.tensors.items())
    assert not all(torch.equal(tensor, other.tensors[name]) for name, tensor in WEIGHTS.tensors.items())


def test_branches_start_closed_unless_they_are_to_start_ajar() -> None:
    arch = Sandwich(SPACE).largest[0]
    ajar = SharedWeights.fresh(SPACE, seed=0, branch_weight=0.25).subnet_state_dict(arch)
    closed = WEIGHTS.subnet_state_dict(arch)
    ends = {name for name, tensor in closed.items() if name.endswith("norm.weight") and not tensor.any()}
    assert any("attention.output" in name for name in ends) and any("ffn" in name for name in ends)
    for name, tensor in closed.items():
        expected = torch.full_like(tensor, 0.25) if name in ends else tensor
        assert torch.equal(ajar[name], expected), name
