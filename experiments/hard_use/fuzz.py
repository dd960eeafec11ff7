"""Damages files of every kind that hwnas reads, and counts what its readers make of them.

    python experiments/hard_use/fuzz.py --list
    python experiments/hard_use/fuzz.py table --minutes 5
    python experiments/hard_use/fuzz.py --inputs 3000 --out fuzz.json

An input is refused (a `HwnasError`), read with the meaning it had, read with another one, or else:

    crash   any other exception, or the end of the process
    hang    no end after 20 s
    memory  an input that took more than 512 MiB
    silent  another meaning, though a checksum or a digest covers the file

All follows from the seed and the number of an input, so that each can be had again: `--only 17`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

HANG_S = 20.0
MEMORY_MIB = 512
LIMIT_BYTES = 12 * 1024**3
KEPT = 12
"""Different faults that are described in full, for each reader."""


def outcome(
    reader: Any, folder: Path, file: str, content: bytes, meaning: object, sealed: bool
) -> tuple[str, str]:
    """(what became of one input, more about it)."""
    from hwnas.errors import HwnasError

    (folder / file).write_bytes(content)
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            found = reader.read(folder)
    except HwnasError as error:
        if not str(error) or error.exit_code not in (1, 2, 3, 4, 5, 6):
            return "crash", f"an error without a message or an exit code: {error!r}"
        try:
            str(error).encode()
        except UnicodeEncodeError:
            return "crash", f"an error that cannot be printed: {error!r}"[:300]
        return f"refused, exit code {error.exit_code}", ""
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)
        own = [one for one in last if "hwnas" in one.filename and "fuzz" not in one.filename] or list(last)
        where = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
        return "crash", f"{type(error).__name__} at {where}: {str(error)[:160]!r}"
    if agrees(reader, found, meaning):
        return "read, the same", ""
    if reader.checked and not sealed:
        return "silent", f"{len(content)} bytes"
    return "read, another meaning", ""


def agrees(reader: Any, found: object, meaning: object) -> bool:
    try:
        return bool(reader.agrees(found, meaning))
    except Exception:
        return False


def work(name: str, seed: int, first: int, last: int, stop_at: float, channel: Connection) -> None:
    """Tries inputs of a reader in this process; sends (number, what, more, seconds, MiB) for each."""
    from fuzz_mutations import damaged
    from fuzz_readers import READERS

    from hwnas.errors import HwnasError

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    sys.setrecursionlimit(1000)
    reader = READERS[name]
    folder = Path(tempfile.mkdtemp(prefix="hwnas-fuzz-"))
    try:
        reader.make(folder)
        whole = {file: (folder / file).read_bytes() for file in reader.files}
        meaning = reader.read(folder)
        assert agrees(reader, reader.read(folder), meaning), (
            f"{name}: whole files are read differently each time"
        )
        channel.send((-1, "ready", "", 0.0, 0))
        for number in range(first, last):
            if time.time() > stop_at:
                break
            rng = random.Random(f"{name} {seed} {number}")
            file = reader.files[rng.randrange(len(reader.files))]
            sealed = reader.change is not None and number % 2 == 1
            try:
                content = reader.change(whole[file], rng) if sealed else damaged(whole[file], rng)  # type: ignore[misc]
            except (
                ValueError,
                LookupError,
                TypeError,
                ArithmeticError,
                AttributeError,
                RuntimeError,
                HwnasError,
            ):
                channel.send((number, "no input", "", 0.0, 0))  # what was changed cannot be written
                continue
            channel.send((number, "begun", "", 0.0, 0))
            before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
            what, more = outcome(reader, folder, file, content, meaning, sealed)
            took = time.perf_counter() - began
            mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
            (folder / file).write_bytes(whole[file])
            channel.send((number, what, more, took, mib))
        channel.send((-1, "done", "", 0.0, 0))
    except BaseException as error:
        channel.send((-1, "broken", "".join(traceback.format_exception(error))[-1500:], 0.0, 0))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tried(
    name: str, *, seed: int, inputs: int, minutes: float | None, only: int | None = None
) -> dict[str, Any]:
    """The figures of one reader."""
    context = multiprocessing.get_context("fork")
    counts: Counter[str] = Counter()
    faults: dict[str, dict[str, Any]] = {}
    slowest, most_mib, number = 0.0, 0, only or 0
    last = number + 1 if only is not None else (10**9 if minutes else inputs)
    stop_at = time.time() + 60 * minutes if minutes else float("inf")

    def fault(kind: str, more: str, place: int) -> None:
        counts[kind] += 1
        key = f"{kind}: {more}" if kind == "crash" else kind
        known = faults.setdefault(key, {"what": kind, "more": more, "first_input": place, "times": 0})
        known["times"] += 1

    began = time.time()
    while number < last and time.time() < stop_at:
        channel, end = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(name, seed, number, last, stop_at, end))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this process has threads: the child uses none of them
            process.start()
        end.close()
        current: int | None = None
        while True:
            try:
                message = channel.recv() if channel.poll(HANG_S if current is not None else 300) else None
            except EOFError:
                message = ("died",)
            if message is None:
                process.kill()
                process.join()
                if current is None:
                    raise SystemExit(f"{name}: its files were not made within 300 s")
                fault("hang", f"more than {HANG_S:g} s", current)
                number = current + 1
                break
            if message == ("died",):
                process.join()
                if current is None:
                    raise SystemExit(f"{name}: the process ended with {process.exitcode} outside of an input")
                code = process.exitcode or 0
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                fault("crash", f"the process ended by {how}", current)
                number = current + 1
                break
            place, what, more, took, mib = message
            if what == "broken":
                raise SystemExit(f"{name}: {more}")
            if what == "begun":
                current = place
            elif what == "done":
                number = last
                process.join()
                break
            elif what != "ready":
                current = None
                slowest, most_mib = max(slowest, took), max(most_mib, mib)
                if what in ("crash", "silent"):
                    fault(what, more, place)
                else:
                    counts[what] += 1
                if mib > MEMORY_MIB:
                    fault("memory", f"{mib} MiB", place)
        if minutes and time.time() >= stop_at:
            break
    tries = sum(count for what, count in counts.items() if what not in ("no input", "memory"))
    return {
        "reader": name,
        "inputs": tries,
        "crashes": counts["crash"],
        "hangs": counts["hang"],
        "memory": counts["memory"],
        "silent": counts["silent"],
        "slowest_s": round(slowest, 2),
        "largest_growth_mib": most_mib,
        "seconds": round(time.time() - began, 1),
        "outcomes": dict(sorted(counts.items())),
        "faults": sorted(faults.values(), key=lambda one: -one["times"])[:KEPT],
    }


def main() -> int:
    from fuzz_readers import READERS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("readers", nargs="*", metavar="READER", help="all when left out")
    parser.add_argument("--list", action="store_true", help="show the readers and end")
    parser.add_argument("--minutes", type=float, help="time for each reader, instead of a number of inputs")
    parser.add_argument("--inputs", type=int, default=2000, help="inputs for each reader (2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this input alone")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    if options.list:
        print("\n".join(READERS))
        return 0
    names = options.readers or list(READERS)
    if unknown := [name for name in names if name not in READERS]:
        parser.error(f"no reader {', '.join(unknown)}: see --list")
    results = []
    print(
        f"{'reader':22} {'inputs':>8} {'crashes':>8} {'hangs':>6} {'memory':>7} {'silent':>7} {'slowest':>8}"
    )
    for name in names:
        found = tried(
            name, seed=options.seed, inputs=options.inputs, minutes=options.minutes, only=options.only
        )
        results.append(found)
        print(
            f"{name:22} {found['inputs']:8} {found['crashes']:8} {found['hangs']:6} {found['memory']:7} "
            f"{found['silent']:7} {found['slowest_s']:7.2f}s",
            flush=True,
        )
        for fault in found["faults"]:
            print(
                f"    {fault['times']:5} x {fault['what']}, first {fault['first_input']}: {fault['more']}",
                flush=True,
            )
        if options.out:
            options.out.write_text(json.dumps({"seed": options.seed, "readers": results}, indent=1) + "\n")
    bad = sum(found["crashes"] + found["hangs"] + found["memory"] + found["silent"] for found in results)
    print(f"{sum(found['inputs'] for found in results)} inputs, {bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
