"""What every verb that changes a network does about the budget of its run: predict, say, stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.common import resolve_arch
from hwnas.errors import HwnasError, OverBudgetError, UsageError
from hwnas.paths import is_text

if TYPE_CHECKING:
    from hwnas.predictors.latency.budget_check import TargetCheck
    from hwnas.search import SearchResult
    from hwnas.space import ArchSpec
    from hwnas.targets import Promise

__all__ = ["OverBudgetOption", "hold_budgets", "promise_of_run", "promise_of_weights", "resolve_promised"]

OverBudgetOption = Annotated[
    str,
    typer.Option(
        "--over-budget",
        metavar="stop|ok",
        help="Whether to go on with a changed network that exceeds the latency budget of its run.",
    ),
]


def promise_of_run(run: SearchResult, arch: ArchSpec) -> Promise:
    """What the run searched for, and that it found this network for it."""
    from hwnas.targets import Promise, Target

    name = "" if run.path is None else run.path.resolve().name
    config = run.config
    targets = tuple(
        Target(target.device, target.budget_ms, config.confidence, config.budget_on)
        for target in config.targets
    )
    return Promise(targets, run=name, network=arch.id)


def resolve_promised(text: str) -> tuple[str, ArchSpec, Promise | None]:
    """(name, architecture, promise) of what an ARCH names, as `resolve_arch`.

    A checkpoint has the name that it was trained under. Without a run the promise is None.
    """
    path = Path(text)
    if path.exists() and not is_text(path) and not (path / "run.yaml").exists():
        from hwnas.train.checkpoint import load

        checkpoint = load(path)
        return checkpoint.name or path.stem, checkpoint.arch, checkpoint.promise
    name, arch = resolve_arch(text)
    run, mark, _ = text.rpartition("#")
    if not mark or path.exists():
        return name, arch, None
    from hwnas.search import load_run

    return name, arch, promise_of_run(load_run(run), arch)


def promise_of_weights(init: str | None) -> Promise | None:
    """The promise of the training that `--init` names; None where it names anything else."""
    if init is None or not Path(init).exists():
        return None
    from hwnas.train.checkpoint import load

    try:
        return load(init).promise
    except HwnasError:  # other weights, or damaged ones, which whoever reads them says
        return None


def hold_budgets(
    networks: Mapping[str, tuple[ArchSpec, Promise | None]],
    *,
    over_budget: str,
    say: Callable[[str], None],
    part: str = "",
) -> list[TargetCheck]:
    """Predict each network anew for the devices of its run, and say whether it is within the budgets.

    `networks` are by the name of what they are now. `part` says what of the network is predicted, where it
    is not the whole. A network that the run itself found is told, and never refused.

    Raises OverBudgetError when a changed network exceeds a budget and `over_budget` is not `ok`.
    """
    from hwnas.predictors.latency.budget_check import check_targets

    if over_budget not in ("stop", "ok"):
        raise UsageError(f"--over-budget must be stop or ok, got '{over_budget}'")
    every: list[TargetCheck] = []
    refused: list[str] = []
    for name, (arch, promise) in networks.items():
        checks = check_targets(arch, promise)
        every += checks
        changed = promise is not None and promise.network != arch.id
        for check in checks:
            line = f"{part}{check}" if len(networks) == 1 else f"{name}: {part}{check}"
            if check.is_over and changed and over_budget != "ok":
                refused.append(line)
            else:
                say(line)
    if refused:
        name, (arch, _) = next(iter(networks.items()))
        subject = f"'{name}' (id {arch.id}) is" if len(networks) == 1 else "These are"
        raise OverBudgetError(
            "\n".join(refused) + f"\n{subject} not what the run found. Search for networks of this size "
            f"(hwnas search with --image-size {arch.resolution} --stem-stride {arch.stem.stride} "
            f"--classes {arch.classes}), keep the size that the run found, or go on with --over-budget ok"
        )
    return every
