"""`hwnas search`: the front of accuracy and latency within a budget, in a run directory."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.common import HostOption, JsonOption, emit_json, stderr
from hwnas.cli.limits import parse_limits
from hwnas.cli.long_work import noting, progress_bar
from hwnas.cli.search_output import note_unchecked, show
from hwnas.cli.workers import AddressOption, EngineOption, GpusOption, WorkersOption, evaluated_where
from hwnas.errors import InfeasibleError, UsageError
from hwnas.units import is_rate, parse_ms, parse_throughput

if TYPE_CHECKING:
    from hwnas.measure.remote.link import Link
    from hwnas.search import SearchResult
    from hwnas.search.api import Progress
    from hwnas.space.search_space import SearchSpace

__all__ = ["command"]


def command(
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="Device, e.g. rpi4 ('hwnas devices' lists them), or a table file. Repeatable, with a "
            "--budget for each, in the same order; all budgets must hold. Several tables of one board, e.g. "
            "cpu-x86,cpu-x86-int8: each network gets one of these configurations.",
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="TIME|RATE",
            help="Latency budget, e.g. 20ms, 0.02s, 800us; or images per second, e.g. 40000/s.",
        ),
    ] = None,
    throughput: Annotated[
        list[str] | None,
        typer.Option(
            "--throughput",
            metavar="RATE",
            help="Budget in images per second instead of --budget, e.g. 40000/s; one for each --device.",
        ),
    ] = None,
    budget_on: Annotated[
        str | None,
        typer.Option(
            "--budget-on",
            metavar="p50|p95",
            help="Compare the budget with the median latency (p50, default) or with its tail (p95), where "
            "the table has it.",
        ),
    ] = None,
    max_params: Annotated[
        str | None,
        typer.Option("--max-params", metavar="N", help="Maximum number of parameters, e.g. 6M or 500k."),
    ] = None,
    max_macs: Annotated[
        str | None, typer.Option("--max-macs", metavar="N", help="Maximum number of MACs, e.g. 600M or 1.2G.")
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory",
            metavar="SIZE",
            help="Maximum memory for weights and activations in fp32, e.g. 20MB.",
        ),
    ] = None,
    minimise: Annotated[
        list[str] | None,
        typer.Option(
            "--minimise",
            metavar="NAME",
            help="Additional objective to minimise: params, macs, memory, or energy where the first device's "
            "table has it. Repeatable.",
        ),
    ] = None,
    accuracy: Annotated[
        str | None,
        typer.Option(
            "--accuracy",
            metavar="ESTIMATOR",
            help="Accuracy estimator: published (default), learned, supernet:PATH, zero-cost:DATA, "
            "short-training:DATA (see docs/accuracy.md), or module:function, a function of an "
            "ArchSpec that returns percent or an Estimate.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            metavar="N",
            help="Number of evaluations in total, including those of a resumed run (2000). Without it, "
            "published and learned search until the front stops growing.",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler", metavar="NAME", help="Sampling algorithm: auto (default), nsga2, tpe, random."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="S", help="Random seed; the same seed finds the same front (0)."),
    ] = None,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    gpus: GpusOption = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            metavar="P",
            help="Probability of being within the budget, e.g. 0.9, by the table's error. "
            "Default: the predicted latency itself must be within the budget.",
        ),
    ] = None,
    int8_penalty: Annotated[
        float | None,
        typer.Option(
            "--int8-penalty",
            metavar="POINTS",
            help="Accuracy that int8 costs, where tables of several precisions are given, e.g. 0.4 (0.75, "
            "published of ViT-B/16).",
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space", metavar="FILE", help="Search space: a YAML file or a name, e.g. small-images."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Images for the later training. Their size and classes set the image size, stem stride "
            "and classes of the space.",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", metavar="N", help="Image side in pixels, e.g. 64."),
    ] = None,
    stem_stride: Annotated[
        int | None,
        typer.Option(
            "--stem-stride",
            metavar="S",
            help="Stem stride: 16, 8, 4 or 2 (image side over feature-map side after the stem).",
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", metavar="N", help="Number of classes, e.g. 10.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Run directory (runs/DEVICE-BUDGET-N)."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="DIR", help="Continue the run in this directory.")
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Start a new search from the candidates of this run, e.g. for another budget. Its options "
            "apply where none are given, and nothing is evaluated twice.",
        ),
    ] = None,
    optuna_journal: Annotated[
        Path | None,
        typer.Option(
            "--optuna-journal",
            metavar="FILE",
            help="Also write the run as an Optuna study, for optuna-dashboard.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Measure the front on the device (this machine, or --host), correct the table and choose "
            "the front again among measured networks.",
        ),
    ] = False,
    verify_during: Annotated[
        bool,
        typer.Option(
            "--verify-during",
            help="Verify, and measure during the search too: networks whose latency interval contains the "
            "budget. They correct the table that the search goes on with.",
        ),
    ] = False,
    verify_networks: Annotated[
        int | None,
        typer.Option(
            "--verify-networks",
            metavar="N",
            min=1,
            help="Maximum number of networks to measure in each round (30, or 8 during the search).",
        ),
    ] = None,
    evaluation_timeout: Annotated[
        float | None,
        typer.Option(
            "--evaluation-timeout",
            metavar="SECONDS",
            min=0.001,
            help="Time limit for one call of an accuracy function, e.g. 600; none by default.",
        ),
    ] = None,
    allow_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-mismatch", help="Verify even if the table is for another board or runtime version."
        ),
    ] = False,
    host: HostOption = "local",
    json_: JsonOption = False,
) -> None:
    """Find networks within a latency budget on a device.

    The device's table predicts the latency. Only networks within the budget are evaluated further. The
    result is a run directory with candidates, front and HTML report. --data (or --image-size,
    --stem-stride, --classes) searches the very networks that are trained later.
    """
    verification = _Verification(
        verify or verify_during, verify_networks, allow_mismatch, host, verify_during
    )
    if trials is not None and trials < 1:
        raise UsageError(f"--trials must be at least 1, got {trials}")
    if seed is not None and seed < 0:
        raise UsageError(f"--seed must be at least 0, got {seed}")
    limits = parse_limits(params=max_params, macs=max_macs, memory=max_memory)
    options: dict[str, Any] = {
        "trials": trials,
        "device": _one_or_all(device or []),
        "accuracy": accuracy,
        "budget_ms": _one_or_all(_budgets_ms(budget or [], throughput or [], device or [])),
        "budget_on": budget_on,
        "limits": limits or None,
        "objectives": minimise or None,
        "sampler": sampler,
        "evaluation_timeout_s": evaluation_timeout,
        "seed": seed,
        "confidence": confidence,
        "int8_penalty": int8_penalty,
        "space": _space(space, _Sizes(data, image_size, stem_stride, classes), accuracy, resume),
    }
    options = {name: value for name, value in options.items() if value is not None}
    if optuna_journal is not None and not os.access(optuna_journal.parent, os.W_OK):
        raise UsageError(f"the folder of --optuna-journal must be there and writable: {optuna_journal}")
    where = {"engine": engine, "workers": workers, "address": address, "gpus": gpus}
    if resume is not None:
        if start_from is not None:
            raise UsageError("--resume continues a run, --from starts a new one: give one of them")
        if out is not None:
            raise UsageError("--resume names the run directory already: leave --out out")
        result = _resumed(resume, options, where, verification)
    else:
        result = _new(out, options, where, verification, start_from)
    if optuna_journal is not None:
        from hwnas.search.optuna_export import export_study

        export_study(result, optuna_journal)
    if json_:
        from hwnas.search import document

        emit_json(document(result))
    else:
        show(result)


def _say(message: str) -> None:
    stderr().print(message, soft_wrap=True, markup=False)


def _one_or_all(values: list[Any]) -> Any:
    """None for none, the value for one, the list for several."""
    return values if len(values) > 1 else next(iter(values), None)


def _budgets_ms(budgets: list[str], throughputs: list[str], devices: list[str]) -> list[float]:
    """Milliseconds of a run on each device, from --budget (times or rates) or from --throughput."""
    if throughputs and budgets:
        raise UsageError(
            "--throughput and --budget do not go together: their order says which device each is for. "
            "Give each device a --budget, which may be a rate: "
            f"--budget {throughputs[0]} --budget {budgets[0]}"
        )
    for text in throughputs:
        parse_throughput(text)
    given = [*budgets, *throughputs]
    if not any(map(is_rate, given)):
        return [parse_ms(text) for text in given]
    if len(given) != len(devices):
        option = "--throughput" if throughputs else "--budget"
        raise UsageError(f"each --device needs a {option}, got {len(given)} for {len(devices)} devices")
    from hwnas.search.configurations import run_budget_ms

    return [run_budget_ms(name, text) for name, text in zip(devices, given, strict=True)]


@dataclass(frozen=True, slots=True)
class _Verification:
    """What was asked of the verification."""

    asked: bool
    networks: int | None
    allow_mismatch: bool
    host: str
    during: bool = False
    """Whether networks are measured during the search as well."""

    @property
    def where(self) -> str:
        """The board in a message."""
        return "this machine" if self.host == "local" else f"'{self.host}'"

    def start(self, runtime: str) -> Callable[[], Link]:
        """What starts an agent on the board."""
        if self.host == "local":
            from hwnas.search.verify import start_here

            return start_here(runtime)
        from hwnas.measure.remote.hosts import start_link

        return start_link(self.host, runtime)

    def search(self, **options: Any) -> SearchResult:
        """A search that measures meanwhile, begun or continued."""
        from hwnas.search.verify_during import NETWORKS, search_and_measure

        return search_and_measure(
            networks=self.networks or NETWORKS,
            allow_mismatch=self.allow_mismatch,
            start=self.start,
            where=self.where,
            say=_say,
            **options,
        )

    def check(self, device: str | list[str], budget_on: str = "p50") -> None:
        """Raises UsageError for options without --verify, and when this machine cannot verify."""
        if not self.asked:
            flags = {
                "--verify-networks": self.networks is not None,
                "--allow-mismatch": self.allow_mismatch,
                "--host": self.host != "local",
            }
            for flag in (flag for flag, given in flags.items() if given):
                raise UsageError(f"{flag} says how --verify measures: give --verify with it")
            return
        from hwnas.search.configurations import split_device

        if not isinstance(device, str) or budget_on != "p50" or len(split_device(device)) > 1:
            raise UsageError(
                "--verify measures the median latency of one device with one table: give one "
                "--device and leave --budget-on out, or leave --verify out"
            )
        from hwnas.predictors.latency import LatencyTable
        from hwnas.search.verify import verifiable_profile

        verifiable_profile(
            LatencyTable.load(device),
            allow_mismatch=self.allow_mismatch,
            start=self.start,
            where=self.where,
            say=_say,
        )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What networks are to be trained at, as far as it was given."""

    data: str | None
    image_size: int | None
    stem_stride: int | None
    classes: int | None

    @property
    def given(self) -> bool:
        return any(
            value is not None for value in (self.data, self.image_size, self.stem_stride, self.classes)
        )

    def adapted(self, space: SearchSpace) -> SearchSpace:
        """The space at these sizes; says what the images are, and what was chosen for them."""
        size, stride, classes = self.image_size, self.stem_stride, self.classes
        seen = ""
        if self.data is not None:
            from hwnas.data.look import look_at, network_size
            from hwnas.data.sources import open_images

            found = look_at(open_images(self.data))
            if size is None and stride is None:
                size, stride = network_size(found.median_side)
            classes = found.classes if classes is None else classes
            seen = (
                f"{self.data}: {found.classes} classes, images of {found.median_side} px "
                f"(median of {found.looked_at}). "
            )
        adapted = space.adapted(resolution=size, stem_stride=stride, classes=classes)
        _say(f"{seen}Searching networks {_described(adapted)}.")
        return adapted


def _described(space: SearchSpace) -> str:
    """`at 64 px, stem stride 4, 10 classes`."""
    sizes, strides = (" or ".join(map(str, numbers)) for numbers in (space.resolution, space.stem_stride))
    return f"at {sizes} px, stem stride {strides}, {space.classes} classes"


def _space(name: str | None, sizes: _Sizes, accuracy: str | None, resumed: Path | None) -> SearchSpace | None:
    """The space that is searched; None where nothing says another than the default, or the resumed run's.

    An estimate by a supernet is of the networks that it was trained for: so its own space is searched.
    """
    from hwnas.space.search_space import SearchSpace

    estimator, _, argument = (accuracy or "published").partition(":")
    space = None if name is None else SearchSpace.from_yaml(name)
    if space is None and resumed is not None and sizes.given:
        from hwnas.search import load_run

        space = load_run(resumed).space
    if estimator == "supernet" and resumed is None:
        from hwnas.predictors.accuracy.supernet import space_of

        own = space_of(argument or None)
        if space is None:
            space = own
            _say(f"Searching the space of the supernet, '{own.name}', {_described(own)}.")
        space = sizes.adapted(space) if sizes.given else space
        covered = {*own.resolution} >= {*space.resolution} and {*own.stem_stride} >= {*space.stem_stride}
        if not covered or own.classes != space.classes:
            _say(
                f"The supernet's estimates are of networks {_described(own)}; "
                f"latency and budget are of networks {_described(space)}."
            )
        return space
    if sizes.given:
        space = sizes.adapted(SearchSpace.default() if space is None else space)
    if estimator == "published" and resumed is None:
        from hwnas.predictors.accuracy.published import estimator as published

        remark = published(argument or None).remark(SearchSpace.default() if space is None else space)
        if remark:
            _say(remark)
    return space


def _new(
    out: Path | None,
    options: dict[str, Any],
    where: dict[str, Any],
    verification: _Verification,
    start_from: Path | None,
) -> SearchResult:
    from hwnas.io.folders import claimed
    from hwnas.search import load_run, next_folder, search

    past = None if start_from is None else load_run(start_from)
    targets: dict[str, Any] = {name: options.get(name) for name in ("device", "budget_ms")}
    if past is not None:
        targets["device"] = targets["device"] or _one_or_all(list(past.config.devices))
        targets["budget_ms"] = targets["budget_ms"] or _one_or_all(
            [target.budget_ms for target in past.config.targets]
        )
    for flag, name, example in (("--device", "device", "rpi4"), ("--budget", "budget_ms", "20ms")):
        if targets[name] is None:
            raise UsageError(
                f"a search needs {flag}, such as {flag} {example} (or --resume DIR, or --from DIR)"
            )
    first = [one[0] if isinstance(one, list) else one for one in targets.values()]
    options |= evaluated_where(given=where, recorded={}, say=_say)
    with claimed(lambda: next_folder(Path("runs"), *first)) if out is None else nullcontext(out) as folder:
        verification.check(targets["device"], options.get("budget_on", "p50"))
        result = _run(
            folder,
            options.get("trials"),
            lambda progress, stop: (verification.search if verification.during else search)(
                out=folder, start_from=past, progress=progress, stop=stop, **options
            ),
            verification,
            options.get("accuracy") or (past.config.accuracy if past is not None else ""),
        )
    return _verified(result, verification) if verification.asked else result


def _resumed(
    folder: Path, options: dict[str, Any], where: dict[str, Any], verification: _Verification
) -> SearchResult:
    from hwnas.search import load_run, resume
    from hwnas.search.run import RUN
    from hwnas.search.verify_during import Stages, is_staged

    staged = is_staged(folder)
    past = load_run(folder / "stage-1" if staged and not (folder / RUN).is_file() else folder)
    note_unchecked(past)
    known = past.verification
    if staged:
        mismatch = verification.allow_mismatch or Stages.read(folder).allow_mismatch
        verification = dataclasses.replace(verification, asked=True, during=True, allow_mismatch=mismatch)
    elif verification.during:
        raise UsageError(f"{folder}: a run that was begun without --verify-during is verified with --verify")
    elif known is not None and not known.is_complete:
        # An unfinished verification goes on without --verify.
        verification = dataclasses.replace(
            verification,
            asked=True,
            networks=verification.networks or known.most,
            allow_mismatch=verification.allow_mismatch or known.mismatch,
        )
    options |= evaluated_where(given=where, recorded=past.work, say=_say)
    known_devices = list(past.config.devices)
    device = options.get("device", known_devices if len(known_devices) > 1 else past.config.devices[0])
    verification.check(device, past.config.budget_on)
    result = _run(
        folder,
        options.get("trials", past.trials_wanted),
        lambda progress, stop: (
            verification.search(out=folder, progress=progress, stop=stop, **options)
            if staged
            else resume(past, progress=progress, stop=stop, **options)
        ),
        verification,
        past.config.accuracy,
    )
    return _verified(result, verification) if verification.asked else result


def _verified(run: SearchResult, asked: _Verification) -> SearchResult:
    """The run with its front measured; exits with 130 or 143 when a signal ended that early."""
    from hwnas.report import write_report
    from hwnas.search.verify import DEFAULT_NETWORKS, verify_front

    folder = run.path
    assert folder is not None
    messages = stderr()
    signals: list[int] = []
    again = _resume_command(folder, asked, run.config.accuracy)
    try:
        with (
            noting(signals, messages.print, after="this network"),
            progress_bar(messages, 0, doing="measuring the front") as progress,
        ):
            result = verify_front(
                run,
                networks=asked.networks or DEFAULT_NETWORKS,
                allow_mismatch=asked.allow_mismatch,
                start=asked.start,
                where=asked.where,
                progress=progress,
                stop=lambda: bool(signals),
            )
    except KeyboardInterrupt:
        messages.print(f"Stopped at once. Continue: {again}", soft_wrap=True, markup=False)
        raise typer.Exit(128 + (signals[-1] if signals else signal.SIGINT)) from None
    except InfeasibleError:
        write_report(folder)
        raise
    write_report(result)
    if signals and not result.is_verified:
        measured = 0 if result.verification is None else len(result.verification.measured)
        messages.print(
            f"Stopped with {measured} networks measured, all saved; the front is not verified yet. "
            f"Continue: {again}",
            soft_wrap=True,
            markup=False,
        )
        raise typer.Exit(128 + signals[0])
    return result


def _resume_command(folder: Path, verification: _Verification, accuracy: str) -> str:
    from hwnas.search import resume_command

    host = "" if verification.host == "local" else f" --host {shlex.quote(verification.host)}"
    return resume_command(folder, accuracy) + (f" --verify{host}" if verification.asked else "")


def _run(
    folder: Path,
    wanted: int | None,
    work: Callable[[Progress, Callable[[], bool]], SearchResult],
    verification: _Verification,
    accuracy: str,
) -> SearchResult:
    """The result of the work, with progress; exits with 130 or 143 when a signal ended it early."""
    from hwnas.report import write_report
    from hwnas.search.run import RUN
    from hwnas.search.verify import Stopped
    from hwnas.search.verify_during import is_staged

    messages = stderr()
    signals: list[int] = []
    again = _resume_command(folder, verification, accuracy)
    try:
        with noting(signals, messages.print), progress_bar(messages, wanted or 0) as progress:
            result = work(progress, lambda: bool(signals))
    except Stopped as stopped:
        messages.print(f"Stopped {stopped}, all saved. Resume: {again}", soft_wrap=True, markup=False)
        raise typer.Exit(128 + signals[0]) from None
    except KeyboardInterrupt:
        if (folder / RUN).exists() or is_staged(folder):
            messages.print(f"Stopped at once. Resume: {again}", soft_wrap=True, markup=False)
        raise typer.Exit(128 + (signals[-1] if signals else signal.SIGINT)) from None
    write_report(result)
    if signals and not result.is_complete:
        messages.print(
            f"Stopped with {result.remaining} candidates, all saved. Resume: {again}",
            soft_wrap=True,
            markup=False,
        )
        raise typer.Exit(128 + signals[0])
    if not result.is_complete:
        messages.print(
            f"The space has no more networks within the budget: all {len(result.trials)} that were found "
            f"are evaluated."
        )
    return result
