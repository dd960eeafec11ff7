"""A recipe is data, and says at once what is wrong with it."""

from __future__ import annotations

import dataclasses

import pytest

from hwnas.errors import UsageError
from hwnas.train.recipe import Recipe, read_recipe, recipe_names


def test_every_recipe_that_ships_is_read_and_written_without_loss() -> None:
    assert {"imagenet", "small", "transfer", "finetune-384", "imagenet-distilled"} <= {*recipe_names()}
    for name in recipe_names():
        recipe = read_recipe(name)
        assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_the_imagenet_recipe_has_the_figures_that_uniform_prints() -> None:
    recipe = read_recipe("imagenet")
    # UniForm, implementation details: 300 epochs, batch 512, learning rate 0.001, weight decay 0.025
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay) == (300, 512, 0.025)
    assert recipe.peak_lr == pytest.approx(0.001)
    assert recipe.mixup_alpha > 0 and recipe.cutmix_alpha > 0 and recipe.random_erasing > 0


@pytest.mark.parametrize(
    ("name", "epochs", "batch_size", "lr", "weight_decay", "image_size"),
    [
        # the papers' own lines: UniForm section 5, EfficientViT 4.1 and 4.3, SHViT 4.1, EleViT appendix A
        ("imagenet-uniform", 300, 512, 1e-3, 0.025, 0),
        ("imagenet-efficientvit", 300, 2048, 1e-3, 0.025, 0),
        ("imagenet-shvit", 300, 2048, 1e-3, 0.025, 0),
        ("imagenet-distilled", 1000, 2048, 1e-3, 0.025, 0),
        ("transfer", 300, 256, 1e-3, 1e-8, 0),
        ("finetune-384", 30, 2048, 4e-3, 1e-8, 384),
        ("finetune-512", 30, 2048, 4e-3, 1e-8, 512),
        ("elevit", 150, 32, 1e-3, 0.01, 224),
    ],
)
def test_a_papers_recipe_has_the_figures_that_it_prints(
    name: str, epochs: int, batch_size: int, lr: float, weight_decay: float, image_size: int
) -> None:
    recipe = read_recipe(name)
    assert (recipe.epochs, recipe.batch_size, recipe.image_size) == (epochs, batch_size, image_size)
    assert (recipe.peak_lr, recipe.weight_decay) == pytest.approx((lr, weight_decay))
    assert recipe.optimizer == "adamw"
    assert bool(recipe.teacher) is name.endswith("distilled")


def test_the_learning_rate_grows_with_the_batch() -> None:
    recipe = read_recipe("imagenet")
    assert dataclasses.replace(recipe, batch_size=2048).peak_lr == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("epochs: 0", "epochs: must be from 1 to"),
        ("epochs: 1e2", "epochs: must be a whole number, got 100.0"),
        ("epochs: true", "epochs: must be a whole number, got True"),
        ("lr: .nan", "lr: must be above 0"),
        ("lr: 1e-3x", "lr: must be a number, got '1e-3x'"),
        ("label_smoothing: 1", "label_smoothing: must be at least 0 and below 1"),
        ("mixup: 0.8", "mixup: no such field. Did you mean 'mixup_alpha'?"),
        ("compile: 1", "compile: must be true or false, got 1"),
        ("accumulate: 40", "accumulate: each part of a batch must hold 2 images, got batch_size=64"),
        ("optimizer: adam", "optimizer: must be one of adamw, lion, nadamw, sgd, got 'adam'"),
        ("precision: fp8", "precision: must be one of mixed, bf16, fp32"),
        ("warmup_epochs: 40", "warmup_epochs: must be at most epochs, got warmup_epochs=40 and epochs=10"),
        ("format: 2", "upgrade hwnas"),
    ],
)
def test_a_wrong_field_is_named_with_the_rule(line: str, complaint: str) -> None:
    fields = {"format": "1", "epochs": "10", "batch_size": "64", "lr": "0.001"}
    name, _, value = line.partition(": ")
    text = "\n".join(f"{key}: {item}" for key, item in {**fields, name: value}.items())
    with pytest.raises(UsageError) as caught:
        Recipe.from_yaml(text, source="r.yaml")
    assert str(caught.value).startswith("r.yaml: ")
    assert complaint in str(caught.value)


def test_all_mistakes_are_listed_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        Recipe(epochs=0, batch_size=1, lr=-1)
    assert len(str(caught.value).splitlines()) == 4  # and the warm-up is longer than the training


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no recipe 'imagnet'\. Did you mean 'imagenet'\?"):
        read_recipe("imagnet")
    with pytest.raises(UsageError, match=r"nowhere\.yaml: cannot be read"):
        read_recipe("nowhere.yaml")
