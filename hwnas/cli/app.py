"""The command `hwnas`: finds the verb's file, runs it, and turns errors into exit codes.

The verbs are listed once, below. Only the file of the verb that was called is imported, so that
`hwnas --help` and a light verb start at once.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from hwnas import __version__
from hwnas.cli import help as help_texts
from hwnas.cli import renamed
from hwnas.cli.common import emit_json, shown
from hwnas.cli.memory import check_limit, is_shortage
from hwnas.cli.os_errors import explained
from hwnas.cli.streams import standard_streams
from hwnas.errors import FileFormatError, HwnasError, UsageError, did_you_mean
from hwnas.paths import expanded
from hwnas.text import plain

__all__ = ["VERBS", "main"]

VERBS: Mapping[str, str] = {
    "search": "Find networks within a latency budget on a device.",
    "report": "Write the HTML report of a run or a training.",
    "compare": "Compare runs: fronts, hypervolume, coverage, settings.",
    "space": "Describe, create and check search spaces.",
    "describe": "Show the cost of a network: size, MACs, latency per op.",
    "models": "List the published networks.",
    "gallery": "List networks that were found for the devices at hand.",
    "train": "Train a network on your images.",
    "train-many": "Train several networks, stop weak ones early.",
    "evaluate": "Measure the accuracy of a trained network.",
    "supernet": "Train one set of weights for all networks of a space.",
    "dense": "Train and evaluate detectors and segmentation networks.",
    "explain": "Show what a network attends to, and how similar its heads are.",
    "export": "Export a network to ONNX, OpenVINO, ncnn, LiteRT or torch.",
    "predict": "Classify, detect or segment photos with an exported file.",
    "devices": "List the devices and the accuracy of their latency tables.",
    "measure": "Measure whole networks beside their prediction.",
    "table": "Build, check and show latency tables.",
    "doctor": "Diagnose the setup and suggest fixes.",
}
"""Every verb, in the order of the help, and its line there. `hwnas/cli/<verb>.py` holds it: a
function `command`, or a group `app`."""

COMPLETE = "_HWNAS_COMPLETE"
"""The variable in which a shell asks for completions."""

PREFIX = "HWNAS"
"""Of the environment's variables."""
TRACEBACK = "HWNAS_TRACEBACK"
"""The variable that asks for the place where an error came from."""

OUT_OF_MEMORY = (
    "out of memory. What was saved stays valid: close other programs, raise the limit (ulimit -v), or use "
    "fewer workers or a smaller batch"
)
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_PIPE = 128 + signal.SIGPIPE
END_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

_HELP = "Find the most accurate vision transformer within your latency budget on your board."
_EPILOG = (
    "'hwnas VERB --help' ends with two examples. Options also come from the environment "
    "(HWNAS_SEARCH_TRIALS=500) or from a file (--config FILE.yaml with 'search: {trials: 500}'). "
    "A flag wins over both, the environment over the file."
)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: stop as on Ctrl-C, but exit with another code."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` by default) and return its exit code.

    Raises nothing, unless HWNAS_TRACEBACK is set: then what nobody foresaw comes through, and what user
    code raised is shown with its place there.
    """
    with standard_streams():
        return _exit_code(list(sys.argv[1:] if argv is None else argv))


def _exit_code(arguments: list[str]) -> int:
    def complain(error: BaseException, text: str, code: int) -> int:
        """The error on stderr, and with --json also as the document on stdout."""
        text = shown(text)
        sys.stderr.write(f"error: {text}\n")
        if "--json" in arguments[: arguments.index("--") if "--" in arguments else None]:
            kind = "UsageError" if isinstance(error, typer.TyperException) else type(error).__name__
            with suppress(OSError):  # stdout may be what failed
                emit_json({"schema": 1, "error": {"type": kind, "message": text, "exit_code": code}})
        return code

    try:
        with _end_signals_raise():
            return _run(arguments)
    except typer.TyperException as error:
        return complain(error, _usage_text(error), error.exit_code)
    except HwnasError as error:
        if os.environ.get(TRACEBACK):
            _show_cause(error)
        return complain(error, str(error), error.exit_code)
    except BrokenPipeError:  # the reader has gone (`| head`): nothing is wrong, nobody is there to be told
        return EXIT_PIPE
    except OSError as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        return complain(error, *explained(error))
    except Terminated as end:
        return end.exit_code
    except SystemExit as end:  # of foreign code: hwnas itself returns codes
        return complain(end, f"foreign code ended the command: sys.exit({end.code!r})", EXIT_INTERNAL)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        if is_shortage(error):
            return complain(error, OUT_OF_MEMORY, EXIT_INTERNAL)
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return complain(
            error, f"internal error: {what}. HWNAS_TRACEBACK=1 shows where; please report it", EXIT_INTERNAL
        )


# --- one run ---------------------------------------------------------------------------------


def _run(arguments: list[str]) -> int:
    arguments = expanded(arguments)
    for name, value in os.environ.items():
        if name.startswith(PREFIX + "_") and "~" in value:
            os.environ[name] = expanded(value)
    arguments, config = _without_config(arguments)
    if os.environ.get(COMPLETE):
        asked = f"{os.environ.get('COMP_WORDS', '')} {os.environ.get('_TYPER_COMPLETE_ARGS', '')}".split()
        return help_texts.complete(_command(next((word for word in asked if word in VERBS), None)), COMPLETE)
    verb = next((argument for argument in arguments if not argument.startswith("-")), None)
    arguments = renamed.with_current_names(arguments, verb)
    verb = renamed.VERBS.get(verb or "", verb)
    if verb in VERBS and not {"-h", "--help"} & set(arguments):
        check_limit()
    command = _command(verb)
    context: dict[str, Any] = {"auto_envvar_prefix": PREFIX}
    if config is not None:
        context["default_map"] = _defaults(config, command, verb)
    if not arguments or (arguments == [verb] and hasattr(command.commands.get(verb), "commands")):
        arguments = [*arguments, "--help"]
    # Not command.main(), which would take KeyboardInterrupt and BrokenPipeError for itself.
    try:
        with command.make_context("hwnas", arguments, **context) as running:
            command.invoke(running)
    except typer.Exit as done:
        return done.exit_code
    finally:
        sys.stdout.flush()
    return 0


def _command(verb: str | None) -> Any:
    """The whole application, of which only `verb` can do anything: no other file is imported."""
    application = typer.Typer(
        cls=help_texts.ThemedGroup,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback(help=_HELP, epilog=_EPILOG)(_root)
    for name, line in VERBS.items():
        if name != verb:
            application.command(name, help=line)(_nothing)
            continue
        module = importlib.import_module(f"hwnas.cli.{name.replace('-', '_')}")
        if hasattr(module, "app"):
            application.add_typer(module.app, name=name, help=line)
        else:
            application.command(name, short_help=line)(module.command)
    command: Any = typer.main.get_command(application)
    if verb is not None and verb in VERBS:
        help_texts.with_examples(command.commands[verb], verb)
    _hide_variables(command)
    return command


def _hide_variables(command: Any) -> None:
    """Leaves the environment's name of each option out of the help, which says the rule once."""
    for parameter in command.params:
        parameter.show_envvar = False
    for subcommand in getattr(command, "commands", {}).values():
        _hide_variables(subcommand)


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            allow_from_autoenv=False,
            callback=lambda on: _show_version(on),
            help="Show the version and exit.",
        ),
    ] = False,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE.yaml", help="File with options for each verb.")
    ] = None,
) -> None:
    """Taken before any verb; `config` is read before typer sees it and stands here for the help."""


def _nothing() -> None:
    """Stands for a verb that was not called."""


def _show_version(on: bool) -> None:
    if on:
        sys.stdout.write(f"hwnas {__version__}\n")
        raise typer.Exit


# --- options from a file ---------------------------------------------------------------------


def _without_config(arguments: list[str]) -> tuple[list[str], Path | None]:
    """The arguments without `--config FILE`, wherever it stood, and the file."""
    rest: list[str] = []
    config: Path | None = Path(os.environ["HWNAS_CONFIG"]) if os.environ.get("HWNAS_CONFIG") else None
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "--":
            return rest + arguments[position:], config
        if argument == "--config":
            if position + 1 == len(arguments):
                raise UsageError("--config needs a file: --config FILE.yaml")
            config = Path(arguments[position + 1])
            position += 1
        elif argument.startswith("--config="):
            config = Path(argument.partition("=")[2])
        else:
            rest.append(argument)
        position += 1
    return rest, config


def _defaults(config: Path, root: Any, verb: str | None) -> dict[str, Any]:
    """What the file says for each verb, checked for the verb that runs.

    The file is a mapping from verb to options, spelled as on the command line without the dashes.
    """
    from hwnas.io import yaml as yaml_io

    try:
        data = yaml_io.read(config)
    except FileFormatError as error:
        raise UsageError(str(error)) from None
    if not isinstance(data, dict):
        raise UsageError(f"{config}: must map verbs to options, such as 'search: {{trials: 500}}'")
    for name, options in data.items():
        if name not in VERBS:
            raise UsageError(f"{config}: no verb '{name}'.{did_you_mean(str(name), VERBS)}")
        if not isinstance(options, dict):
            raise UsageError(f"{config}: {name}: must map options to values")
    command = root.commands[verb] if verb in VERBS else None
    return {
        name: _checked_options(config, name, options, command) if name == verb else options
        for name, options in data.items()
    }


def _checked_options(config: Path, where: str, options: Mapping[str, Any], command: Any) -> dict[str, Any]:
    """The options under the names of the parameters they set (`--dry-run` may set `dry`)."""
    subcommands = getattr(command, "commands", {})
    parameters = {
        spelling.lstrip("-"): parameter for parameter in command.params for spelling in parameter.opts
    }
    checked: dict[str, Any] = {}
    for option, value in options.items():
        key = str(option).replace("_", "-")
        if option in subcommands and isinstance(value, dict):
            checked[option] = _checked_options(config, f"{where}.{option}", value, subcommands[option])
        elif parameter := parameters.get(key) or parameters.get(str(option)):
            if value is not None:
                checked[parameter.name] = _as_given(value, parameter, f"{config}: {where}: {option}")
        elif key == "device" and (parameter := parameters.get("accelerator")):
            checked[parameter.name] = value  # its earlier name
        else:
            hint = did_you_mean(key, [*parameters, *subcommands])
            raise UsageError(f"{config}: {where} has no option '{option}'.{hint}")
    return checked


def _as_given(value: Any, parameter: Any, where: str) -> Any:
    """A value of the file as the parameter takes it: an option that repeats takes one or a list, and one
    of NAME=VALUE a mapping, too."""
    value = expanded(value)
    if getattr(parameter, "multiple", False) or parameter.nargs == -1:
        if isinstance(value, dict):
            value = [f"{name}={_yaml_text(one)}" for name, one in value.items()]
        value = value if isinstance(value, list) else [value]
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, (dict, list)) or (
            isinstance(value, list) and parameter.nargs == 1 and not getattr(parameter, "multiple", False)
        ):
            raise UsageError(f"{where} takes one value, got {type(value).__name__}: {value!r}")
    return value


def _yaml_text(value: Any) -> str:
    """A value as it is written behind NAME=."""
    return value if isinstance(value, str) else json.dumps(value)


# --- errors and signals ----------------------------------------------------------------------


def _usage_text(error: typer.TyperException) -> str:
    """What typer has to say, with the command that says more."""
    context = getattr(error, "ctx", None)
    text = " ".join(error.format_message().split())
    return text if context is None else f"{text.rstrip('.')}. See '{context.command_path} --help'"


def _show_cause(error: HwnasError) -> None:
    """Where user code failed: the cause of the error, or what a worker process noted of it."""
    if error.__cause__ is not None:
        traceback.print_exception(error.__cause__)
    for note in getattr(error, "__notes__", ()):
        sys.stderr.write(f"{plain(note)}\n")


@contextmanager
def _end_signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP become an exception, so that work in hand is saved as on Ctrl-C.

    A signal that was ignored stays so (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        raise Terminated(number)

    before = {
        number: signal.signal(number, end)
        for number in END_SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
