"""The networks are what their papers say, what `lower` says, and what the equations say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from nn_archs import ELEVIT_LIKE, PADDED_WINDOWS, SMALL
from published_counts import COUNTS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import Network, build
from hwnas.nn.attention.cascaded_group import CascadedGroupAttention
from hwnas.nn.attention.element_wise import ElementWiseAttention
from hwnas.nn.attention.reuse import ReuseAttention
from hwnas.nn.attention.single_head import SingleHeadAttention
from hwnas.nn.network import build_op
from hwnas.space import (
    ArchSpec,
    Head,
    OpSpec,
    SearchSpace,
    Stage,
    Stem,
    count_macs,
    count_params,
    lower,
    preset,
    preset_names,
)
from hwnas.space.arch import ATTENTIONS
from hwnas.space.ops import KINDS


class MacCounter(TorchFunctionMode):
    """Counts multiply-accumulates of what torch runs while it is on, one image a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("conv2d", "linear"):
            self.macs += result.numel() * args[1][0].numel()
        elif name == "matmul":
            self.macs += result.numel() * args[0].shape[-1]
        return result


def on_meta(arch: ArchSpec) -> Network:
    """The network without memory for its weights: shapes only, at once."""
    with torch.device("meta"):
        return build(arch).eval()


def counted(arch: ArchSpec) -> tuple[int, int]:
    """(parameters, MACs) of the torch network."""
    network = on_meta(arch)
    with MacCounter() as counter:
        network(torch.empty(1, 3, arch.resolution, arch.resolution, device="meta"))
    return sum(weight.numel() for weight in network.parameters()), counter.macs


@pytest.mark.parametrize("name", preset_names())
def test_lower_counts_the_parameters_and_macs_that_the_torch_network_has(name: str) -> None:
    ops = lower(preset(name))
    assert counted(preset(name)) == (count_params(ops), count_macs(ops))


@pytest.mark.parametrize("name", COUNTS)
def test_a_preset_has_the_published_parameters_and_macs(name: str) -> None:
    params, macs = counted(preset(name))
    published_params, published_mmacs = COUNTS[name]
    assert params == published_params
    assert macs / 1e6 == pytest.approx(published_mmacs, rel=0, abs=0.006)


@pytest.mark.parametrize("name", SMALL)
def test_every_op_gives_the_shape_and_has_the_parameters_that_lower_says(name: str) -> None:
    network = build(SMALL[name]).eval()
    x = torch.randn(2, 3, network.arch.resolution, network.arch.resolution)
    for op in network.ops:
        module = network.get_submodule(op.place)
        assert tuple(x.shape[1:]) == op.in_shape
        x = module(x)
        assert tuple(x.shape[1:]) == op.out_shape
        assert sum(weight.numel() for weight in module.parameters()) == op.params


def test_the_small_architectures_run_every_kind_of_op() -> None:
    assert {op.kind for arch in SMALL.values() for op in lower(arch)} == set(KINDS)


@pytest.mark.parametrize("name", SMALL)
def test_an_op_is_read_back_from_its_key(name: str) -> None:
    for op in lower(SMALL[name]):
        assert OpSpec.from_key(op.key) == op


def test_the_features_are_the_outputs_of_the_stages() -> None:
    network = build(preset("uniform-t").adapted(resolution=64)).eval()
    features = network.forward_features(torch.randn(2, 3, 64, 64))
    assert [tuple(feature.shape) for feature in features] == [(2, 64, 4, 4), (2, 128, 2, 2), (2, 192, 1, 1)]


def test_an_image_of_another_size_is_refused_with_what_is_needed() -> None:
    """Fault 51."""
    with pytest.raises(UsageError, match=r"must be \(batch, 3, 40, 40\), got \(1, 3, 32, 32\)"):
        build(PADDED_WINDOWS)(torch.zeros(1, 3, 32, 32))


def test_an_attention_without_a_file_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean 'reuse'"):
        build_op(OpSpec("reuze", (("c", 8), ("side", 7))))


# --- fresh weights ---------------------------------------------------------------------------------


def test_a_fresh_network_passes_its_blocks_unchanged() -> None:
    network = build(PADDED_WINDOWS).eval()
    for op in network.ops:
        if ".blocks." in op.place and not op.key.endswith("variant=paper)"):
            x = torch.randn(2, *op.in_shape)
            assert torch.equal(network.get_submodule(op.place)(x), x), op.place


def test_a_fresh_downsample_convolves_at_once() -> None:
    network = build(PADDED_WINDOWS)
    assert bool((network.get_parameter("stages.1.downsample.dw0.conv.norm.weight") == 1).all())
    assert bool((network.get_parameter("stages.0.blocks.0.dw0.conv.norm.weight") == 0).all())


def test_a_fresh_classifier_is_a_truncated_normal_of_002() -> None:
    torch.manual_seed(0)
    linear = build(preset("uniform-t")).get_submodule("head.linear")
    assert isinstance(linear, nn.Linear)
    assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert not linear.bias.detach().any()


def test_random_weights_leave_no_branch_at_zero_and_are_the_same_each_time() -> None:
    first, second = (randomise(build(arch), seed=1) for arch in (ELEVIT_LIKE, ELEVIT_LIKE))
    for (name, weight), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(weight, other)
        assert bool(weight.abs().max() > 0), name


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_that_is_used_is_trained(name: str) -> None:
    network = randomise(build(SMALL[name])).double()
    side = network.arch.resolution
    network(torch.randn(4, 3, side, side, dtype=torch.float64)).square().sum().backward()
    for key, weight in network.named_parameters():
        assert weight.grad is not None and bool(weight.grad.any()), key
        if key.endswith("bias.table"):
            unused = [row for row in weight.grad if not row.any()]
            reuse = isinstance(network.get_submodule(key.rpartition(".bias")[0]), ReuseAttention)
            assert len(unused) == (len(weight) - 1 if reuse else 0), key


def test_the_files_in_nn_attention_are_the_attentions_of_an_architecture() -> None:
    assert set(plugins.names("nn/attention")) == set(ATTENTIONS)


# --- the equations, written out -------------------------------------------------------------------


def ready(module: nn.Module) -> Any:
    """In float64 and eval mode, with random weights."""
    return randomise(module).double().eval()


def distance_bias(table: Tensor, size: int) -> Tensor:
    """The bias of equal distances, looked up position by position."""
    n = size * size
    bias = torch.empty(n, n, dtype=table.dtype)
    for a in range(n):
        for b in range(n):
            rows, columns = abs(a // size - b // size), abs(a % size - b % size)
            bias[a, b] = table[rows * size + columns]
    return bias


def attended(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | float) -> Tensor:
    """softmax(scale q k^T + bias) v, a token at a time; q, k, v are (channels, w, w) of one window."""
    queries, keys, values = (x.flatten(1).T for x in (q, k, v))  # (N, channels)
    scores = queries @ keys.T * scale + bias
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
    return (weights @ values).T.reshape(v.shape)


def windows_of(x: Tensor, size: int) -> list[tuple[slice, slice]]:
    return [
        (slice(row, row + size), slice(column, column + size))
        for row in range(0, x.shape[-2], size)
        for column in range(0, x.shape[-1], size)
    ]


@torch.no_grad()
def test_reuse_attention_is_its_equations_window_by_window() -> None:
    attention: ReuseAttention = ready(ReuseAttention(c=8, side=10, heads=2, kernels=(3, 5), window=4))
    x = torch.randn(1, 8, 10, 10, dtype=torch.float64)
    padded = torch.zeros(1, 8, 12, 12, dtype=torch.float64)
    padded[:, :, :10, :10] = x
    expected = torch.empty_like(padded)
    assert attention.bias is not None
    bias = distance_bias(attention.bias.table[0], 4)
    for rows, columns in windows_of(padded, 4):
        window = padded[:, :, rows, columns]
        query_key = attention.query_key(window)
        q = attention.query_local(query_key[:, :2])[0]
        outputs = []
        for head, values in enumerate(window.split(4, dim=1)):
            v = attention.value_scales[head](values)[0]
            outputs.append(attended(q, query_key[0, 2:], v, 1 / 4, bias))
        expected[:, :, rows, columns] = attention.output(torch.cat(outputs)[None])
    torch.testing.assert_close(attention(x), x + expected[:, :, :10, :10])


@torch.no_grad()
def test_reuse_attention_as_printed_scales_by_the_width_and_has_no_projection() -> None:
    attention = ready(ReuseAttention(c=8, side=4, heads=2, kernels=(1, 3), variant="paper"))
    x = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    q, k = attention.query_key(x)[0].split(8)
    values = attention.value(x)
    heads = [attention.value_scales[i](part)[0] for i, part in enumerate(values.split(4, dim=1))]
    outputs = [attended(q, k, v, 8**-0.5, 0.0) for v in heads]
    torch.testing.assert_close(attention(x), x + torch.cat(outputs)[None])


@torch.no_grad()
def test_cascaded_heads_read_their_split_and_the_head_before() -> None:
    attention: CascadedGroupAttention = ready(
        CascadedGroupAttention(c=12, side=5, heads=3, kernels=(3, 5, 7), key_dim=4)
    )
    x = torch.randn(1, 12, 5, 5, dtype=torch.float64)
    outputs: list[Tensor] = []
    for head in range(3):
        own = x[:, 4 * head : 4 * head + 4]
        given = own + outputs[-1][None] if outputs else own
        q, k, v = attention.query_key_value[head](given)[0].split((4, 4, 4))
        q = attention.query_local[head](q[None])[0]
        outputs.append(attended(q, k, v, 4**-0.5, distance_bias(attention.bias.table[head], 5)))
    torch.testing.assert_close(attention(x), x + attention.output(torch.cat(outputs)[None]))


@torch.no_grad()
def test_single_head_attention_normalises_only_what_attends() -> None:
    attention: SingleHeadAttention = ready(SingleHeadAttention(c=10, side=6, channels=4, key_dim=8))
    x = torch.randn(1, 10, 6, 6, dtype=torch.float64)
    part = x[:, :4]
    normalised = (part - part.mean()) / (part.var(unbiased=False) + 1e-5).sqrt()
    q, k, v = attention.query_key_value(normalised)[0].split((8, 8, 4))
    mixed = torch.cat([attended(q, k, v, 8**-0.5, 0.0), x[0, 4:]])
    torch.testing.assert_close(attention(x), x + attention.output(mixed[None]))


@torch.no_grad()
@pytest.mark.parametrize("softmax", ["width", "tokens"])
@pytest.mark.parametrize("swap_key", [True, False])
def test_element_wise_attention_multiplies_element_by_element(softmax: str, swap_key: bool) -> None:
    attention: ElementWiseAttention = ready(
        ElementWiseAttention(c=4, side=3, softmax=softmax, swap_key=swap_key, output="none")
    )
    x = torch.randn(1, 4, 3, 3, dtype=torch.float64)
    q, k, v = attention.query(x)[0], attention.key(x)[0], attention.value(x)[0]
    expected = x.clone()
    assert attention.alpha is not None
    for channel in range(4):
        for row in range(3):
            key_row = k[channel, :, row] if swap_key else k[channel, row]
            scores = (q[channel, row] * key_row / 2).exp()
            total = scores.sum()
            if softmax == "tokens":
                key_map = k[channel].T if swap_key else k[channel]
                total = (q[channel] * key_map / 2).exp().sum()
            expected[0, channel, row] += attention.alpha[0] * scores / total * v[channel, row]
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("type_", ["reuse", "single-head", "cascaded-group", "element-wise"])
def test_a_fresh_attention_of_the_space_learns_all_it_has(type_: str) -> None:
    """A branch starts at zero by one factor alone: two of them would hold each other there for ever."""
    choices = SearchSpace.default().stages[0]
    width, layout = choices.width[0], "dw-attention-ffn"
    fitted = (choices.attention[number].fitted(width) for number in choices.allowed(width, layout))
    attention = next(one for one in fitted if one is not None and one.type == type_)
    stage = Stage(width=width, blocks=(attention,), layout=layout)
    arch = ArchSpec(stages=(stage,), resolution=32, stem=Stem(stride=4), head=Head(classes=3))
    torch.manual_seed(0)
    network = build(arch).double()
    before = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    images, labels = torch.randn(12, 3, 32, 32, dtype=torch.float64), torch.arange(12) % 3
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    still = {name for name, tensor in network.named_parameters() if torch.equal(tensor, before[name])}
    assert still == set()
