"""`hwnas explain`: what a network looks at, as pictures, and how alike its heads are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas import plugins
from hwnas.cli.common import JsonOption, emit_json, say, stdout, write_err
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.explain.explanation import Subject

__all__ = ["command"]


def command(
    arch: Annotated[
        str,
        typer.Argument(
            metavar="CKPT|ARCH",
            help="Checkpoint with trained weights; or a preset, an architecture file (YAML) or RUN#2.",
        ),
    ],
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", metavar="FILE", help="Image to explain. Repeatable."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Compare heads on 128 val images (or test) of DATA. Default: on --image.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the pictures (explained/NAME)."),
    ] = None,
    wanted: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="Class that Grad-CAM explains, by number or name. Default: the likeliest.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="WEIGHTS",
            help="Initial weights for an ARCH without a checkpoint, as in hwnas train.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write Grad-CAM and attention maps as PNG, and measure the similarity of the heads."""
    images = image or []
    if not images and data is None:
        raise UsageError("there is nothing to look at: give --image FILE, or --data DATA to compare heads")
    for package in ("torch", "timm", "safetensors"):
        plugins.require(package, extra="torch")
    from hwnas.explain.explanation import explain, wanted_class

    subject = _subject(arch, init)
    target = None if wanted is None else wanted_class(subject, wanted)
    folder = out or Path("explained") / subject.name.replace("#", "-")
    document = explain(subject, images, folder, target=target, data=data)
    if as_json:
        emit_json(document | {"folder": str(folder)})
    else:
        _show(document, folder)
    if subject.weights == "random":
        write_err(
            "The weights are random, so the pictures show nothing: explain a checkpoint, or give --init.\n"
        )


def _subject(text: str, init: str | None) -> Subject:
    from hwnas.explain.explanation import Subject
    from hwnas.named import named_network
    from hwnas.train.recipe import read_recipe

    name, network, trained = named_network(text, say=say)
    if trained is not None:
        if init is not None:
            raise UsageError(f"--init is for an architecture, got the checkpoint {text}: leave --init out")
        return Subject(name, network, "trained", trained.classes_names, trained.recipe)
    weights = "random"
    if init is not None:
        from hwnas.train.init_weights import find_start, fitted

        start = find_start(init, network.arch)
        own = network.state_dict()
        given = fitted(own, start.weights)
        network.load_state_dict(own | given)
        weights = start.source
        absent = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
        if absent:
            write_err(f"{init} has nothing for {len(absent)} weights, which are random: {absent[0]} ...\n")
    return Subject(name, network.eval(), weights, (), read_recipe("imagenet"))


def _show(document: dict[str, Any], folder: Path) -> None:
    from rich.table import Table

    console = stdout()
    console.print(f"{document['name']} (id {document['id']}), weights: {document['weights']}")
    for own in document["images"]:
        named = ", ".join(f"{row['name']} {100 * row['probability']:.1f} %" for row in own["classes"][:3])
        console.print(f"{own['name']}: {named}", soft_wrap=True)
        console.print("  " + ", ".join(str(folder / file) for file in own["pictures"]), soft_wrap=True)
    if not document["heads"]:
        console.print("heads: no attention has more than one")
        return
    count = document["heads"][0]["images"]
    console.print(f"how alike heads are, over {count} image(s): the mean of all pairs, and of the most alike")
    grid = Table("attention", "kind", "heads", "maps, cosine", "outputs, CKA", box=None)
    for row in document["heads"]:
        maps = row["maps_cosine"]
        cells = [
            "one map for all" if maps is None else _two(maps),
            _two(row["outputs_cka"]),
        ]
        grid.add_row(row["place"], row["kind"], str(row["heads"]), *cells)
    console.print(grid)
    console.print(f"{folder / document['heads_picture']}", soft_wrap=True)


def _two(similarity: dict[str, Any]) -> str:
    return f"{similarity['mean_of_others']:.3f}  {similarity['mean_of_maxima']:.3f}"
