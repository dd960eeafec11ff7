"""`hwnas explain`: Grad-CAM by hand, attention that adds up, heads that are alike and that are not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from nn_archs import ELEMENT_WISE, ELEVIT_LIKE, PADDED_WINDOWS, SMALL
from torch import Tensor, nn
from train_samples import ARCH, COLOURS, RECIPE, squares

from hwnas.explain import pictures
from hwnas.explain.attention_maps import attention_places, grad_cam, look, stage_ends
from hwnas.explain.head_similarity import linear_cka, mean_of_maxima, mean_of_others, similarities
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import Network, build
from hwnas.nn.attention.cascaded_group import CascadedGroupAttention
from hwnas.nn.attention.reuse import ReuseAttention
from hwnas.space import ArchSpec, CascadedGroup, Head, Reuse, Stage, Stem
from hwnas.train import checkpoint
from hwnas.train.checkpoint import Checkpoint


def network_of(arch: ArchSpec, seed: int = 0) -> Network:
    return randomise(build(arch), seed=seed).eval()


def images_for(arch: ArchSpec, count: int = 2, seed: int = 1) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, arch.resolution, arch.resolution, generator=random)


# --- Grad-CAM ----------------------------------------------------------------------------------


class MeanThenLinear(nn.Module):
    """Features as they come, their mean over positions, two logits."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.linear.weight.data = weight

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.features(x).mean(dim=(2, 3)))
        return logits


def test_grad_cam_of_a_linear_head_is_what_one_gets_by_hand() -> None:
    """d logit / d A_k is w_k / 4 everywhere, so the map is max(0, sum of w_k / 4 * A_k)."""
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 1.0]]]])  # (1, 2, 2, 2)
    network = MeanThenLinear(torch.tensor([[2.0, -1.0], [-1.0, 3.0]]))
    (first,) = grad_cam(network, features, torch.tensor([0]), ["features"])
    (second,) = grad_cam(network, features, torch.tensor([1]), ["features"])
    assert first.tolist() == [[[0.0, 1.0], [1.5, 1.75]]]  # (2 A_0 - A_1) / 4, cut off at 0
    assert second.tolist() == [[[2.75, 0.0], [0.0, 0.0]]]  # (3 A_1 - A_0) / 4


def test_each_image_of_a_batch_is_explained_by_itself() -> None:
    network, images = network_of(PADDED_WINDOWS), images_for(PADDED_WINDOWS)
    ends, classes = list(stage_ends(network).values()), torch.tensor([3, 7])
    together = grad_cam(network, images, classes, ends)
    for number in range(2):
        alone = grad_cam(network, images[number : number + 1], classes[number : number + 1], ends)
        for one, both in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], both[number])


def test_grad_cam_follows_the_gradient_of_a_whole_network() -> None:
    """Against finite differences: the mean of the gradient over positions is what one gets by adding a
    little to a whole channel, divided by the number of positions."""
    network, images = network_of(SMALL["shvit-like"]).double(), images_for(SMALL["shvit-like"], 1).double()
    place = list(stage_ends(network).values())[-1]
    found: list[Tensor] = []
    handle = network.get_submodule(place).register_forward_hook(lambda *given: found.append(given[2]))
    network(images)
    handle.remove()
    (features,) = (own.detach() for own in found)
    side, little = features.shape[-1], 1e-5
    slopes = []
    for channel in range(features.shape[1]):
        logits = []
        for sign in (1, -1):
            moved = features.clone()
            moved[:, channel] += sign * little
            logits.append(network.get_submodule("head")(moved)[0, 4].item())
        slopes.append((logits[0] - logits[1]) / (2 * little) / side**2)
    expected = (torch.tensor(slopes).view(1, -1, 1, 1) * features).sum(dim=1).clamp(min=0)
    (cam,) = grad_cam(network, images, torch.tensor([4]), [place])
    torch.testing.assert_close(cam, expected, rtol=1e-5, atol=1e-9)


def test_looking_changes_neither_the_logits_nor_the_mode_nor_the_gradients() -> None:
    network, images = network_of(ELEMENT_WISE).train(), images_for(ELEMENT_WISE)
    expected = network.eval()(images)
    network.train()
    logits, _ = look(network, images)
    grad_cam(network, images, torch.tensor([0, 0]), list(stage_ends(network).values()))
    torch.testing.assert_close(logits, expected)
    assert network.training
    assert all(weight.grad is None for weight in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


# --- attention maps ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_every_attention_is_seen_and_its_rows_sum_to_1(name: str) -> None:
    arch = SMALL[name]
    network = network_of(arch)
    _, seen = look(network, images_for(arch))
    assert [own.place for own in seen] == list(attention_places(network))
    assert [own.kind for own in seen] == list(attention_places(network).values())
    for own in seen:
        for matrix in own.maps:
            over_tokens = matrix.ndim == 4 and network.get_submodule(own.place).over_tokens
            sums = matrix.flatten(2).sum(dim=2) if over_tokens else matrix.sum(dim=-1)
            torch.testing.assert_close(sums, torch.ones_like(sums))


def test_what_positions_get_of_a_whole_map_sums_to_1_for_each_head() -> None:
    arch = SMALL["shvit-like"]
    _, seen = look(network_of(arch), images_for(arch))
    for own in seen:
        torch.testing.assert_close(own.received.sum(dim=(1, 2, 3)), torch.ones(2))


def only_key(number: int, positions: int) -> Callable[[int], Tensor]:
    """What biases every position of every head towards one."""
    return lambda head: torch.zeros(positions, positions).index_fill(1, torch.tensor([number]), 99.0)


def test_attention_that_looks_at_one_place_is_shown_there() -> None:
    """A bias towards the key at (2, 3), which every position then looks at."""
    arch = ArchSpec(
        stages=(Stage(8, (CascadedGroup(1, (1,), key_dim=1),)),), resolution=16, stem=Stem(stride=4)
    )
    network = network_of(arch)
    place = next(iter(attention_places(network)))
    attention = network.get_submodule(place)
    assert isinstance(attention, CascadedGroupAttention)
    attention.bias.forward = only_key(11, 16)  # type: ignore[method-assign]
    _, (own,) = look(network, images_for(arch, 1))
    assert int(own.received[0, 0].argmax()) == 2 * 4 + 3
    assert float(own.received[0, 0, 2, 3]) == pytest.approx(1.0)


def test_windows_are_put_back_where_they_were_cut() -> None:
    """In a map of 4 windows, each window looks at its first position only."""
    arch = ArchSpec(
        stages=(Stage(8, (Reuse(2, (3, 5), window=4),)),),
        resolution=32,
        stem=Stem(stride=4),
        head=Head(classes=5),
    )
    network = network_of(arch)
    attention = network.get_submodule(next(iter(attention_places(network))))
    assert isinstance(attention, ReuseAttention) and attention.bias is not None
    attention.bias.forward = only_key(0, 16)  # type: ignore[method-assign]
    _, (own,) = look(network, images_for(arch, 3))
    bright = (own.received[:, 0] > 0.5).nonzero().tolist()
    assert bright == [[image, row, column] for image in range(3) for row in (0, 4) for column in (0, 4)]


def test_a_map_is_brightest_where_its_value_is_largest() -> None:
    picture = PIL.Image.new("RGB", (64, 64), (100, 100, 100))
    values = torch.zeros(4, 4)
    values[1, 2] = 5.0
    drawn = np.asarray(pictures.over(picture, values).convert("L"))
    assert np.unravel_index(drawn.argmax(), drawn.shape)[0] // 16 == 1
    assert np.unravel_index(drawn.argmax(), drawn.shape)[1] // 16 == 2
    assert np.asarray(pictures.heat(torch.tensor([[0.0, 1.0]])))[0].tolist() == [[68, 1, 84], [253, 231, 37]]


# --- heads -------------------------------------------------------------------------------------


def test_cka_is_1_for_rotated_outputs_and_near_0_for_independent_ones() -> None:
    random = torch.Generator().manual_seed(0)
    first, other = torch.randn(2, 4000, 3, generator=random, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=random, dtype=torch.float64))
    channels = torch.cat([first, 5 * first @ turn, other, torch.full_like(first, 2.0)], dim=1)
    alike = linear_cka(torch.cov(channels.T, correction=0), 3)
    assert alike[0, 1] == pytest.approx(1.0)
    assert 0 <= alike[0, 2] < 0.01
    assert alike[0, 3] == 0 and alike[3, 3] == 1


def test_cka_is_the_published_formula() -> None:
    """|X'Y|^2 / (|X'X| |Y'Y|), written out for two heads of two channels."""
    x, y = torch.randn(2, 50, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x, y = x - x.mean(dim=0), y + 0.7 * x
    y = y - y.mean(dim=0)
    expected = torch.norm(x.T @ y) ** 2 / (torch.norm(x.T @ x) * torch.norm(y.T @ y))
    found = linear_cka(torch.cov(torch.cat([x, y], dim=1).T), 2)
    assert float(found[0, 1]) == pytest.approx(float(expected))


def one_attention(attention: Reuse | CascadedGroup) -> tuple[ArchSpec, Network]:
    arch = ArchSpec(
        stages=(Stage(8, (attention,)),), resolution=32, stem=Stem(stride=4), head=Head(classes=5)
    )
    return arch, network_of(arch)


def test_heads_that_do_the_same_are_alike_and_others_less() -> None:
    """Two heads of reuse attention with the same kernel, the second's input channels those of the first."""
    arch, network = one_attention(Reuse(2, (3, 3)))
    (different,) = similarities(network, [images_for(arch, 8)])
    attention = network.get_submodule(different.place)
    assert isinstance(attention, ReuseAttention)
    attention.value_scales[1].load_state_dict(attention.value_scales[0].state_dict())
    attention.register_forward_pre_hook(lambda _, given: torch.cat([given[0][:, :4]] * 2, dim=1))
    (same,) = similarities(network, [images_for(arch, 8)])
    assert float(same.outputs[0, 1]) == pytest.approx(1.0)
    assert float(different.outputs[0, 1]) < 0.9
    assert same.maps is None and different.maps is None


def test_maps_that_are_the_same_are_alike_and_others_less() -> None:
    """Without queries all heads of cascaded group attention look everywhere alike."""
    arch, network = one_attention(CascadedGroup(2, (3, 3), key_dim=4))
    (different,) = similarities(network, [images_for(arch, 8)])
    attention = network.get_submodule(different.place)
    assert isinstance(attention, CascadedGroupAttention)
    attention.scale = 0.0
    with torch.no_grad():
        attention.bias.table.copy_(attention.bias.table[:1].expand(2, -1))
    (same,) = similarities(network, [images_for(arch, 8)])
    assert same.maps is not None and different.maps is not None
    assert float(same.maps[0, 1]) == pytest.approx(1.0)
    assert float(different.maps[0, 1]) < 0.99
    assert mean_of_others(same.maps) == pytest.approx(1.0)


def test_batches_add_up_to_what_all_images_at_once_give() -> None:
    arch, network = one_attention(CascadedGroup(2, (3, 5), key_dim=4))
    images = images_for(arch, 7)
    (at_once,) = similarities(network, [images])
    (in_parts,) = similarities(network, images.split(3))
    assert at_once.images == in_parts.images == 7
    assert at_once.maps is not None and in_parts.maps is not None
    torch.testing.assert_close(at_once.maps, in_parts.maps, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(at_once.outputs, in_parts.outputs, rtol=1e-4, atol=1e-5)


def test_single_heads_have_nothing_to_compare_and_channels_are_heads() -> None:
    arch = SMALL["shvit-like"]
    assert similarities(network_of(arch), [images_for(arch)]) == ()
    found = similarities(network_of(ELEVIT_LIKE), [images_for(ELEVIT_LIKE)])
    assert [own.heads for own in found] == [8, 12]
    assert found[0].maps is not None and found[0].maps.shape == (8, 8)


def test_summaries_are_those_of_the_papers() -> None:
    matrix = torch.tensor([[1.0, 0.2, 0.6], [0.2, 1.0, 0.4], [0.6, 0.4, 1.0]])
    assert mean_of_others(matrix) == pytest.approx(0.4)  # (0.2 + 0.6 + 0.4) / 3
    assert mean_of_maxima(matrix) == pytest.approx((0.6 + 0.4 + 0.6) / 3)


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A checkpoint for three colours."""
    arch = ARCH.adapted(classes=3)
    network = randomise(build(arch), seed=3)
    saved = Checkpoint(dict(network.state_dict()), tuple(sorted(COLOURS)), RECIPE, (), arch=arch, name="mine")
    (tmp_path / "trained").mkdir()
    checkpoint.save(saved, tmp_path / "trained" / checkpoint.BEST)
    return tmp_path / "trained"


def test_a_checkpoint_is_explained_in_pictures_and_figures(
    trained: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    data = squares(tmp_path / "data")
    image, out = data / "test" / "red" / "000.jpg", tmp_path / "out"
    given = ("--image", str(image), "--data", str(data), "--class", "red", "--out", str(out))
    answer = hwnas("explain", str(trained), *given)
    assert answer.code == 0, answer.err
    assert "one map for all" in answer.out and "over 24 image(s)" in answer.out
    document = json.loads((out / "explanation.json").read_text())
    names = ["000.attention.png", "000.grad-cam.png", "explanation.json", "head-similarity.png"]
    assert sorted(file.name for file in out.iterdir()) == names
    for name in (name for name in names if name.endswith(".png")):
        with PIL.Image.open(io.BytesIO((out / name).read_bytes())) as picture:
            picture.load()
            assert picture.format == "PNG" and min(picture.size) > 100
    (own,) = document["images"]
    assert own["explained"] == {"class": 2, "name": "red"}
    assert sum(row["probability"] for row in own["classes"]) == pytest.approx(1.0)
    assert set(own["grad_cam"]) == {"stages.0", "stages.1"}
    (heads,) = document["heads"]
    assert (heads["kind"], heads["heads"], heads["images"], heads["maps_cosine"]) == ("reuse", 2, 24, None)
    assert heads["outputs_cka"]["matrix"][0][0] == 1.0


def test_the_pictures_explain_what_evaluation_sees(
    trained: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    """The likeliest class here is the one that the network names in an evaluation."""
    from hwnas.data.loader import evaluation_batches
    from hwnas.data.sources import open_images

    data = squares(tmp_path / "data", test=2)
    loaded = checkpoint.load(trained)
    images = open_images(data)
    batches = evaluation_batches(
        images,
        images.split("test"),
        sorted(COLOURS),
        RECIPE.augmentation,
        batch_size=RECIPE.batch_size,
        seed=RECIPE.seed,
        size=16,
        workers=0,
    )
    pixels = torch.cat([batch.images for batch in batches.epoch(0)])
    with torch.no_grad():
        expected = checkpoint.trained_network(loaded)(pixels).softmax(dim=1)
    for image, chances in zip(images.split("test"), expected, strict=True):
        out = tmp_path / "out"
        given = ("--image", str(data / image.name), "--out", str(out), "--json")
        (own,) = json.loads(hwnas("explain", str(trained), *given).out)["images"]
        told = {row["class"]: row["probability"] for row in own["classes"]}
        assert [told[number] for number in range(3)] == pytest.approx(chances.tolist(), abs=1e-5)


def test_an_architecture_is_explained_with_weights_given(
    trained: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    arch, out = tmp_path / "arch.yaml", tmp_path / "out"
    arch.write_text(ARCH.adapted(classes=3).to_yaml())
    image = tmp_path / "plain.png"  # whatever is cut out of it, it is the same
    PIL.Image.new("RGB", (20, 20), (200, 40, 60)).save(image)
    random = hwnas("explain", str(arch), "--image", str(image), "--out", str(out))
    assert random.code == 0 and "The weights are random" in random.err
    given = ("--image", str(image), "--init", str(trained), "--out", str(out), "--json")
    answer = hwnas("explain", str(arch), *given)
    assert answer.code == 0 and answer.err == ""
    own = json.loads(hwnas("explain", str(trained), "--image", str(image), "--out", str(out), "--json").out)
    likeliest = [
        document["images"][0]["classes"][0]["probability"] for document in (json.loads(answer.out), own)
    ]
    assert likeliest[0] == pytest.approx(likeliest[1])


@pytest.mark.parametrize(
    ("name", "content", "code", "told"),
    [
        ("bad.jpg", b"no image at all", 6, "must be an image that Pillow can decode, got: not an image"),
        ("cut.png", b"\x89PNG\r\n\x1a\n", 6, "must be an image that Pillow can decode"),
        ("absent.jpg", None, 2, "cannot be read: No such file or directory"),
    ],
)
def test_a_bad_image_is_one_line_and_nothing_is_written(
    name: str,
    content: bytes | None,
    code: int,
    told: str,
    trained: Path,
    hwnas: Callable[..., Any],
    tmp_path: Path,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    answer = hwnas("explain", str(trained), "--image", str(tmp_path / name), "--out", str(tmp_path / "out"))
    assert answer.code == code
    assert told in answer.err and name in answer.err and answer.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give --image FILE, or --data DATA"),
        (["--class", "reed"], "from 0 to 2 or a name that it learned, got 'reed'. Did you mean 'red'?"),
        (["--class", "3"], "got '3'"),
        (["--init", "published"], "--init is for an architecture"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    arguments: list[str], told: str, trained: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    image = squares(tmp_path / "data", train=1, test=1) / "test" / "red" / "000.jpg"
    given = [*arguments, "--image", str(image)] if arguments else []
    answer = hwnas("explain", str(trained), *given, "--out", str(tmp_path / "out"))
    assert answer.code == 2
    assert told in answer.err
    assert not (tmp_path / "out").exists()
