"""Zero-cost proxies against what a hand, or a plain autograd, computes on networks small enough for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

pytest.importorskip("torch")

import nn_archs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn import build
from hwnas.nn.attention._windows import Windows
from hwnas.nn.blocks import open_branches
from hwnas.predictors.accuracy.proxies import (
    dss,
    expressivity,
    grad_norm,
    load_proxy,
    naswot,
    proxy_names,
    readout,
    synflow,
    zico,
)
from hwnas.space import ArchSpec, Head, Stage, Stem, lower

WITHOUT_ATTENTION = ArchSpec(
    resolution=16,
    stem=Stem(stride=4),
    head=Head(classes=3),
    stages=(Stage(8, (None, None), "dw-attention-ffn"), Stage(12, (None,), "dw-attention-ffn")),
)


def random_batches(
    side: int, *, classes: int = 10, images: int = 4, count: int = 2
) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(images, 3, side, side, generator=generator),
            torch.randint(classes, (images,), generator=generator),
        )
        for _ in range(count)
    ]


def fresh(arch: ArchSpec) -> nn.Module:
    torch.manual_seed(0)
    return open_branches(build(arch))


def linear(rows: Sequence[Sequence[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


# --- open_branches ---


@pytest.mark.parametrize("name", nn_archs.SMALL)
def test_a_fresh_network_passes_by_its_branches_and_an_awakened_one_does_not(name: str) -> None:
    arch = nn_archs.SMALL[name]
    torch.manual_seed(0)
    asleep = build(arch)
    torch.manual_seed(0)
    awake = open_branches(build(arch))
    idle = {}
    for label, network in (("asleep", asleep), ("awake", awake)):
        for op in network.ops:
            if op.in_shape == op.out_shape:
                x = torch.randn(3, *op.in_shape)
                with torch.no_grad():
                    idle[label, op.place] = bool(torch.equal(network.get_submodule(op.place)(x), x))
    assert any(value for (label, _), value in idle.items() if label == "asleep")
    assert not any(value for (label, _), value in idle.items() if label == "awake")


# --- NASWOT ---


def test_two_codes_share_the_bits_that_are_alike_ones_and_zeros() -> None:
    codes = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 0, 0]])
    assert naswot.shared_bits(codes).tolist() == [[4, 2, 0], [2, 4, 2], [0, 2, 4]]


def test_naswot_is_the_log_determinant_of_the_codes_of_all_images() -> None:
    images = torch.tensor([[1.0, -1.0, 2.0], [1.0, 3.0, -2.0], [-1.0, 1.0, -1.0]])[:, :, None, None]
    network = nn.Sequential(nn.Flatten(), nn.Identity(), nn.ReLU())
    labels = torch.zeros(3, dtype=torch.int64)
    # Codes 101, 110 and 010 share 3, 1, 0 / 1, 3, 2 / 0, 2, 3 bits: determinant 27 - 12 - 3 = 12.
    batches = [(images[:2], labels[:2]), (images[2:], labels[2:])]
    assert naswot.score(network, batches) == pytest.approx(math.log(12))


def test_images_with_the_same_code_make_naswot_minus_infinity() -> None:
    images = torch.ones(2, 3, 1, 1)
    network = nn.Sequential(nn.Flatten(), nn.ReLU())
    assert naswot.score(network, [(images, torch.zeros(2, dtype=torch.int64))]) == -math.inf


@pytest.mark.parametrize("name", nn_archs.SMALL)
def test_naswot_sees_every_activation_that_the_ops_list(name: str) -> None:
    arch = nn_archs.SMALL[name]
    bits = sum(
        math.prod(primitive.shape)
        for op in lower(arch)
        for primitive in op.primitives
        if primitive.kind in ("relu", "gelu")
    )
    with torch.no_grad(), naswot._Switches(2) as switches:
        fresh(arch)(torch.randn(2, 3, arch.resolution, arch.resolution))
    assert switches.kernel.diagonal().tolist() == [bits, bits]


def test_naswot_gives_an_image_the_bits_of_its_own_windows() -> None:
    x = torch.randn(3, 4, 14, 14, generator=torch.Generator().manual_seed(0))
    kernels = []
    for cut in (lambda x: x, Windows(14, 7).split):
        with torch.no_grad(), naswot._Switches(3) as switches:
            F.relu(cut(x))
        kernels.append(switches.kernel)
    assert torch.equal(kernels[0], kernels[1])


# --- gradient norm ---


def test_the_gradient_norm_is_that_of_softmax_regression_by_hand() -> None:
    layer = linear([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    images = torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])[:, :, None, None]
    labels = torch.tensor([0, 1])
    # p = 1/2 for all, so the gradient is (p - y) x / 2 images: -3/4 and 1 in row 0, 3/4 and -1 in row 1.
    by_hand = math.sqrt(2 * (0.75**2 + 1.0**2))
    found = grad_norm.score(nn.Sequential(nn.Flatten(), layer), [(images, labels)])
    assert found == pytest.approx(math.log(by_hand))


def test_the_gradient_norm_of_a_network_is_the_sum_over_its_layers_that_autograd_gives() -> None:
    batches = random_batches(40)
    network = fresh(nn_archs.PADDED_WINDOWS)
    found = grad_norm.score(network, batches)
    F.cross_entropy(network(batches[0][0]), batches[0][1]).backward()
    norms = [
        float(part.weight.grad.norm())
        for part in network.modules()
        if isinstance(part, nn.Conv2d | nn.Linear) and part.weight.grad is not None
    ]
    assert len(norms) > 20 and found == pytest.approx(math.log(sum(norms)), rel=1e-5)


# --- ZiCo ---


def test_zico_divides_each_weights_mean_gradient_by_its_deviation() -> None:
    gradients = torch.tensor([[1.0, 3.0, 4.0], [3.0, 3.0, -4.0]])
    # 2 / 1 for the first; the second does not vary and is left out; 4 / 4 for the third.
    assert zico.agreement(gradients) == pytest.approx(math.log(2 + 1))


def test_a_layer_whose_gradients_never_vary_counts_nothing() -> None:
    assert zico.agreement(torch.ones(2, 5)) == zico.agreement(torch.zeros(2, 5)) == 0


def test_zico_of_a_network_sums_its_layers_with_the_gradients_of_each_batch() -> None:
    batches = random_batches(32, count=3)
    network = fresh(nn_archs.SHVIT_LIKE)
    found = zico.score(network, batches)
    layers: dict[str, list[Tensor]] = {}
    for images, labels in batches:
        network.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        for name, part in network.named_modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                layers.setdefault(name, []).append(part.weight.grad.clone())
    by_hand = 0.0
    for gradients in layers.values():
        one, two, three = (gradient.double() for gradient in gradients)
        mean = (one + two + three) / 3
        deviation = (((one - mean) ** 2 + (two - mean) ** 2 + (three - mean) ** 2) / 3).sqrt()
        size = (one.abs() + two.abs() + three.abs()) / 3
        by_hand += math.log(float((size / deviation)[deviation > 0].sum()))
    assert found == pytest.approx(by_hand, rel=1e-3)


# --- SynFlow and DSS ---


def test_synflow_of_a_linear_network_is_its_depth_times_what_flows_through() -> None:
    """Each weight times its gradient is the flow through it, and every layer carries all of the flow."""
    first, second = [[1.0, -2.0, 3.0], [0.0, 1.0, -1.0]], [[-1.0, 2.0], [3.0, 0.5]]
    # |first| on ones: 6 and 2; |second| on that: 10 and 19; the sum 29, twice for two layers.
    network = nn.Sequential(nn.Flatten(), linear(first), linear(second))
    batch = (torch.zeros(1, 3, 1, 1), torch.zeros(1, dtype=torch.int64))
    assert synflow.score(network, [batch]) == pytest.approx(math.log(2 * 29))


def test_the_diversity_of_a_weight_is_the_product_of_two_nuclear_norms() -> None:
    weight, gradient = torch.diag(torch.tensor([3.0, 4.0])), torch.diag(torch.tensor([1.0, -1.0]))
    assert dss.diversity(weight, gradient) == pytest.approx(7 * 2)
    collapsed = torch.ones(2, 2) * math.sqrt(12.5 / 2)  # the same sum of squares, 25, in one direction
    assert dss.diversity(collapsed, gradient) == pytest.approx(5 * 2)


def test_dss_of_a_network_without_attention_is_its_synflow() -> None:
    batches = random_batches(16, classes=3)
    with_seed = [proxy.score(fresh(WITHOUT_ATTENTION), batches) for proxy in (dss, synflow)]
    assert with_seed[0] == pytest.approx(with_seed[1])


def test_dss_counts_each_attentions_weights_by_their_nuclear_norms() -> None:
    arch = nn_archs.SHVIT_LIKE
    batches = random_batches(32)
    network = fresh(arch)
    found = dss.score(network, batches)
    total = 0.0
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            weight, gradient = part.weight.detach(), part.weight.grad
            if ".attention." in name:
                singular = [torch.linalg.svdvals(one.flatten(1)).sum() for one in (weight, gradient)]
                total += float(singular[0] * singular[1])
            else:
                total += float((weight * gradient).abs().sum())
    assert found == pytest.approx(math.log(total))
    assert found != pytest.approx(synflow.score(fresh(arch), batches))


# --- expressivity ---


def test_expressivity_is_the_log_of_how_many_directions_are_used_alike() -> None:
    two_of_three = torch.tensor([[1.0, 1, 5], [1, -1, 5], [-1, 1, 5], [-1, -1, 5]])
    assert expressivity.entropy(two_of_three) == pytest.approx(math.log(2))
    assert expressivity.entropy(torch.ones(4, 3)) == 0


def test_expressivity_adds_up_what_every_op_but_the_head_gives() -> None:
    arch, batches = nn_archs.ELEMENT_WISE, random_batches(32)
    network = fresh(arch)
    found = expressivity.score(network, batches)
    x, total = batches[0][0], 0.0
    with torch.no_grad():
        for op in network.ops[:-1]:
            x = network.get_submodule(op.place)(x)
            features = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).double()
            shares = torch.linalg.svdvals(features - features.mean(dim=0)) ** 2
            shares = shares[shares > 0] / shares.sum()
            total -= float((shares * shares.log()).sum())
    assert found == pytest.approx(total, rel=1e-4)


# --- readout ---


def test_the_readouts_error_is_that_of_one_fit_without_each_image() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    targets = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    spread = features.std(dim=0, correction=0)
    scaled = (features - features.mean(dim=0)) / spread / math.sqrt(5)
    centred = targets - targets.mean(dim=0)
    errors = []
    for left in range(12):
        others = torch.arange(12) != left
        x, y = scaled[others], centred[others]
        weights = torch.linalg.solve(x.T @ x + readout.RIDGE * torch.eye(5, dtype=x.dtype), x.T @ y)
        errors.append((centred[left] - scaled[left] @ weights).square())
    assert readout.left_out_error(features, targets) == pytest.approx(float(torch.stack(errors).mean()))


def test_a_readout_tells_classes_that_the_features_tell_and_no_others() -> None:
    labels = torch.arange(40) % 2
    targets = F.one_hot(labels).double()
    noise = torch.randn(40, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    telling = torch.cat([noise, 3 * targets], dim=1)
    assert readout.left_out_error(telling, targets) < 0.1
    assert readout.left_out_error(noise, targets) > 0.2  # 0.25 is what guessing the mean errs by


# --- all ---


@pytest.mark.parametrize("arch", nn_archs.SMALL.values(), ids=nn_archs.SMALL)
@pytest.mark.parametrize("name", proxy_names())
def test_every_proxy_gives_every_kind_of_network_a_finite_number(name: str, arch: ArchSpec) -> None:
    score = load_proxy(name).score(fresh(arch), random_batches(arch.resolution, images=6))
    assert math.isfinite(score)
