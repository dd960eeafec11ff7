"""Plug-ins: a file in a folder of hwnas, or an entry point of another package, by its name.

`hwnas/runtimes/onnxruntime.py` *is* the runtime "onnxruntime". Folders are listed without
importing anything; one file is imported when it is named. Another package adds to a folder with an
entry point in the group `hwnas.<folder>`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hwnas.errors import MissingPackageError, UsageError, did_you_mean
from hwnas.foreign import guarded
from hwnas.shell import install

__all__ = [
    "PACKAGE",
    "callable_package",
    "file_of",
    "lazy_names",
    "load",
    "load_callable",
    "names",
    "require",
]

PACKAGE = Path(__file__).resolve().parent
"""The folder of the installed package, from which its files are found."""


def names(folder: str) -> tuple[str, ...]:
    """The plug-ins of a folder such as "runtimes", sorted; nothing is imported."""
    own = [file.stem for file in (PACKAGE / folder).glob("*.py") if file.stem[0] != "_"]
    return tuple(sorted({name.replace("_", "-") for name in own} | set(_entry_points(folder))))


def load(folder: str, name: str) -> Any:
    """The module of a plug-in (or what its entry point names).

    Raises UsageError for an unknown name, with the nearest known one.
    """
    _check(folder, name)
    foreign = _entry_points(folder)
    if name in foreign:
        with guarded(f"the plug-in '{name}' ({foreign[name].value}) cannot be loaded"):
            return foreign[name].load()
    return importlib.import_module(f"hwnas.{folder.replace('/', '.')}.{name.replace('-', '_')}")


def file_of(folder: str, name: str) -> Path:
    """The one file that a plug-in is, for where it is copied to and loaded alone; not imported here.

    Raises UsageError for an unknown name, and for an entry point that names no module in one file.
    """
    _check(folder, name)
    point = _entry_points(folder).get(name)
    if point is None:
        return PACKAGE / folder / f"{name.replace('-', '_')}.py"
    try:
        found = importlib.util.find_spec(point.module)
    except ModuleNotFoundError:
        found = None
    if point.attr or found is None or not (found.origin or "").endswith(".py"):
        raise UsageError(
            f"the entry point of {name!r} in 'hwnas.{folder}' must name a module in one Python file, "
            f"got '{point.value}'"
        )
    return Path(str(found.origin))


def require(package: str, *, extra: str) -> ModuleType:
    """The imported package, or MissingPackageError with the command that installs it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise MissingPackageError(
            f"the package '{package}' is not installed. Install it: {install(extra)}"
        ) from None


def lazy_names(
    package: str,
    homes: Mapping[str, str],
    *,
    needs: Sequence[str] = (),
    extra: str = "",
    light: Collection[str] = (),
) -> Callable[[str], Any]:
    """A package's `__getattr__`, which imports a name's module when the name is first used.

    `homes` tells the module of each name. Before any but the `light` ones is imported, the packages in
    `needs` must be there: else MissingPackageError.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        for needed in () if homes[name] in light else needs:
            require(needed, extra=extra)
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find


class _CallablePackage(ModuleType):
    """A package that is called as the function of the public API that has its name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(*arguments, **options)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """For `inspect.signature`."""
        return self._function

    @property
    def _function(self) -> Callable[..., Any]:
        api = importlib.import_module(f"{PACKAGE.name}.api")
        function: Callable[..., Any] = getattr(api, self.__name__.rpartition(".")[2])
        return function


def callable_package(package: str) -> None:
    """Lets `hwnas.search(...)` call the function of the public API, while `hwnas.search` stays a package.

    The function is imported when it is first called, by name: the package itself depends on nothing above it.
    """
    sys.modules[package].__class__ = _CallablePackage


def load_callable(reference: str) -> Callable[..., Any]:
    """The function that 'module:function' names; the current folder is searched too.

    Raises UsageError when the module, or the function in it, is not there.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"a function is named as 'module:function', got '{reference}'")
    if str(Path.cwd()) not in sys.path:  # an installed command has its own folder there instead
        sys.path.append(str(Path.cwd()))
        importlib.invalidate_caches()
    try:
        with guarded(f"importing '{module_name}' for '{reference}' failed"):
            module = importlib.import_module(module_name)
    except UsageError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise UsageError(
                f"no module '{error.__cause__.name}' for '{reference}': install it, or run from the folder "
                "it is in"
            ) from None
        raise
    found = getattr(module, attribute, None)
    if not callable(found):
        raise UsageError(f"'{module_name}' has no function '{attribute}', as '{reference}' asks")
    result: Callable[..., Any] = found
    return result


def _check(folder: str, name: str) -> None:
    known = names(folder)
    if name not in known:
        raise UsageError(
            f"no {name!r} among {folder}.{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}"
        )


@lru_cache(maxsize=32)
def _entry_points(folder: str) -> dict[str, importlib.metadata.EntryPoint]:
    group = "hwnas." + folder.replace("/", ".")
    return {point.name: point for point in importlib.metadata.entry_points(group=group)}
