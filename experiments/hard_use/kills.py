"""Kills a piece of work again and again at random moments, resumes it, and compares with one that was not.

    python experiments/hard_use/kills.py --list
    python experiments/hard_use/kills.py table-build supernet --kills 20 --out kills.json

Everything runs on small data that are real otherwise: photos of squares, networks of some thousand
parameters, and for tables a fake board that answers like an agent, as its times must not depend on the
machine. A child process does the work; this one sends it SIGKILL after a random time, looks at what is on
the disk, and lets the next child resume. Work that ends before its kill is compared and begun anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

LIMIT_S = 300.0
"""For one piece of work that is not killed."""


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work: done in a folder, from wherever an earlier child left it."""

    imports: Callable[[], object]
    """Loads what is slow to load, once, before children are forked."""
    run: Callable[[Path, Path], object]
    """(data, out): does the work, or the rest of it."""
    result: Callable[[Path], object]
    """What came of it, to be compared."""
    whole: Callable[[Path], object] = lambda out: None
    """Reads whatever is there after a kill; raises what its readers raise."""
    data: Callable[[Path], object] = lambda folder: None
    """Makes the data, once."""


# --- the work -----------------------------------------------------------------------------------


def _photos(folder: Path) -> None:
    from train_samples import squares

    squares(folder / "squares", train=10, test=8)


def _torch() -> None:
    import timm  # noqa: F401
    import torch

    torch.set_num_threads(1)


def _bits(checkpoint: Any) -> dict[str, tuple[str, bytes]]:
    return {
        name: (str(tensor.dtype), tensor.contiguous().numpy().tobytes())
        for name, tensor in checkpoint.state_dict.items()
    }


# tables


def _plan() -> Any:
    from latency_fakes import small_space

    from hwnas.measure.plan import make_plan, space_ops

    space = small_space()
    own = {op.key for op in space_ops(space)}
    plan = make_plan(space, networks=18, passes=3)
    return dataclasses.replace(plan, ops=tuple(op for op in plan.ops if op.key in own))


def _build(data: Path, out: Path) -> None:
    from latency_fakes import FakeExporter, FakeLink

    from hwnas.measure.build import build_table

    out.mkdir(exist_ok=True)
    table = build_table(
        _plan(),
        name="fake",
        runtime="fake",
        threads=1,
        batch=1,
        precision="fp32",
        exporter=FakeExporter(),
        start=FakeLink(sleep_s=0.002).start,
        samples=out / "fake.samples",
        created="2026-11-21",
        resume=(out / "fake.samples").exists(),
        sleep=lambda seconds: None,
    )
    table.save(out / "fake.yaml")


def _table_read(out: Path) -> None:
    from hwnas.measure.samples import read_samples

    for samples in out.glob("*.samples"):
        read_samples(samples)
    for table in out.glob("*.yaml"):
        _table_of(table)


def _table_of(path: Path) -> Any:
    from hwnas.predictors.latency import LatencyTable

    return LatencyTable.load(str(path))


def _rows(out: Path) -> object:
    table = _table_of(out / "fake.yaml")
    return table.rows, table.calibration, table.heldout


@cache
def _candidates() -> Any:
    from latency_fakes import small_space
    from test_transferred import known_tables

    from hwnas.measure.transfer_candidates import draw_candidates

    return draw_candidates(small_space(), known_tables(small_space()), seed=0)


def _transfer(data: Path, out: Path) -> None:
    from latency_fakes import FakeExporter, FakeLink, small_space

    from hwnas.measure.transfer_build import build_transferred
    from hwnas.measure.transfer_candidates import plan_samples

    out.mkdir(exist_ok=True)
    table = build_transferred(
        plan_samples(_candidates(), 8, passes=3, seed=0),
        _candidates(),
        space=small_space(),
        name="fake",
        runtime="fake",
        threads=1,
        batch=1,
        precision="fp32",
        exporter=FakeExporter(),
        start=FakeLink(sleep_s=0.01).start,
        samples=out / "fake.samples",
        created="2026-11-21",
        resume=(out / "fake.samples").exists(),
        sleep=lambda seconds: None,
    )
    table.save(out / "fake.yaml")


# trainings


def _train(data: Path, out: Path) -> None:
    from train_samples import ARCH, RECIPE

    from hwnas.train.training import train

    recipe = dataclasses.replace(RECIPE, epochs=8)
    train(ARCH, data / "squares", recipe, out, resume=True, clock=lambda: 0.0)


def _trained(out: Path) -> object:
    from hwnas.train.checkpoint import LAST, load

    found = load(out / LAST)
    return found.history, _bits(found), (out / "result.json").exists()


def _resumable(out: Path) -> None:
    from hwnas.train.checkpoint import LAST, PREVIOUS, resume_point

    if any((out / name).exists() for name in (LAST, PREVIOUS)):
        assert not resume_point(out).skipped, "a kill damaged a checkpoint"


def _supernet(data: Path, out: Path) -> None:
    from supernet_samples import SETTINGS, SPACE

    from hwnas.supernet.trainer import train

    settings = dataclasses.replace(SETTINGS, epochs=4, held_back=6, calibration_images=6)
    train(SPACE, data / "squares", settings, out, limit=24, resume=True, clock=lambda: 0.0)


def _supernet_result(out: Path) -> object:
    from hwnas.supernet.checkpoint import load

    found = load(out)
    return found.history, _bits(found)


def _supernet_whole(out: Path) -> None:
    from hwnas.supernet.checkpoint import resume_point

    if (out / "last.safetensors").exists():
        assert not resume_point(out).skipped, "a kill damaged a checkpoint"


def _shapes(folder: Path) -> None:
    from dense_samples import shapes

    shapes(folder / "shapes", train=8, val=2)


def _dense(data: Path, out: Path) -> None:
    from dense_samples import ARCH, RECIPE

    from hwnas.dense.trainer import train

    recipe = dataclasses.replace(RECIPE, epochs=4, batch_size=4, lr_batch_size=4, ema_decay=0.9)
    train(ARCH, "detect", data / "shapes", recipe, out, name="tiny", resume=True, clock=lambda: 0.0)


def _dense_result(out: Path) -> object:
    from hwnas.dense.checkpoint import load
    from hwnas.train.checkpoint import LAST

    found = load(out / LAST)
    return found.history, _bits(found)


def _dense_whole(out: Path) -> None:
    from hwnas.dense.checkpoint import resume_point

    if (out / "last.safetensors").exists():
        assert not resume_point(out).skipped, "a kill damaged a checkpoint"


def _many(data: Path, out: Path) -> None:
    from test_contest import alike
    from train_samples import PLAIN_RECIPE

    from hwnas.tune import TuneConfig, train_many

    recipe = dataclasses.replace(PLAIN_RECIPE, epochs=3, ema_decay=0.0)
    train_many(TuneConfig(alike(3), str(data / "squares"), recipe, out, limit=24), resume=True, workers=1)


def _many_result(out: Path) -> object:
    """The first network of a size is never stopped; which others are depends on who trained when."""
    from hwnas.train.checkpoint import LAST, load
    from hwnas.tune.record import read_states

    states = read_states(out)
    first = load(out / "net-0" / LAST)
    ended = all(state in ("finished", "fallen behind") for state in states.values())
    return sorted(states), ended, _bits(first), first.epoch


def _many_whole(out: Path) -> None:
    from hwnas.tune.record import read_states

    read_states(out)
    for folder in out.glob("net-*"):
        _resumable(folder)


# searches


def _search(accuracy: str, trials: int) -> Callable[[Path, Path], object]:
    def run(data: Path, out: Path) -> None:
        from search_fakes import small_space, table

        from hwnas.search import resume, search

        named = accuracy.format(data=data / "squares", out=out.parent)
        if (out / "run.yaml").exists():
            resume(out, device=table(), accuracy=named)
        else:
            search(small_space(), device=table(), budget_ms=0.9, accuracy=named, trials=trials, out=out)

    return run


def _found(out: Path) -> object:
    from hwnas.search import load_run
    from hwnas.search.candidates import CANDIDATES

    result = load_run(out)
    lines = (out / CANDIDATES).read_bytes().splitlines()[1:]  # the first one names the folder of the data
    return len(lines), [(one.id, one.accuracy.value, one.vector) for one in result.trials]


def _run_read(out: Path) -> None:
    from hwnas.search import load_run

    if (out / "run.yaml").exists():
        load_run(out)


# exports


def _export(data: Path, out: Path) -> None:
    import torch
    from train_samples import ARCH

    from hwnas.export.classifier import ExportSettings, export_classifier
    from hwnas.nn import build

    out.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = build(ARCH).eval()
    export_classifier("tiny", network, out / "model.onnx", ExportSettings())


def _exported(out: Path) -> object:
    from hwnas.export.exported_file import find_exported

    found = find_exported(out / "model.onnx")
    left = [path.name for path in out.iterdir() if path.name.endswith(".partial")]
    return (out / "model.onnx").read_bytes(), found.card["arch"], len(left) <= 2


def _export_whole(out: Path) -> None:
    import onnx

    if (out / "model.onnx").exists():
        onnx.checker.check_model(onnx.load(out / "model.onnx"))
    if (out / "model.onnx.card.json").exists():
        from hwnas.export.model_card import read_card

        read_card(out / "model.onnx.card.json")


def _export_imports() -> None:
    _torch()
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401

    import hwnas.export.classifier  # noqa: F401


SHORT = "short-training:{data},epochs=2,images=12,test=12,batch=6,side=16,stem=4,journal={out}/curves.jsonl"
ZERO = "zero-cost:{data},proxy=synflow+naswot,images=12,inits=1,side=16,stem=4,journal={out}/scores.jsonl"

WORK: dict[str, Work] = {
    "table-build": Work(lambda: None, _build, _rows, _table_read),
    "table-transfer": Work(lambda: _candidates(), _transfer, _rows, _table_read),
    "train": Work(_torch, _train, _trained, _resumable, _photos),
    "supernet": Work(_torch, _supernet, _supernet_result, _supernet_whole, _photos),
    "dense": Work(_torch, _dense, _dense_result, _dense_whole, _shapes),
    "train-many": Work(_torch, _many, _many_result, _many_whole, _photos),
    "search": Work(lambda: None, _search("search_fakes:slow", 150), _found, _run_read),
    "search-zero-cost": Work(_torch, _search(ZERO, 14), _found, _run_read, _photos),
    "search-short-training": Work(_torch, _search(SHORT, 10), _found, _run_read, _photos),
    "export": Work(_export_imports, _export, _exported, _export_whole),
}


# --- killing ------------------------------------------------------------------------------------


def child(work: Work, data: Path, out: Path, log: Path) -> int:
    """A process that does the work; its output goes to the log."""
    if (process := os.fork()) != 0:
        return process
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        work.run(data, out)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(process: int, within_s: float) -> int | None:
    """The exit status, or None when it still runs after that time."""
    until = time.monotonic() + within_s
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def to_the_end(work: Work, data: Path, out: Path, log: Path) -> float:
    """Does the work without a kill; seconds."""
    began = time.monotonic()
    process = child(work, data, out, log)
    code = ended(process, LIMIT_S)
    if code is None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    if code != 0:
        raise SystemExit(f"the work failed ({code}): {log.read_text(errors='replace')[-2000:]}")
    return time.monotonic() - began


def killed(name: str, kills: int, seed: int) -> dict[str, Any]:
    """The figures of one piece of work; ends the program where it goes wrong."""
    work, rng = WORK[name], random.Random(f"{name} {seed}")
    place = Path(tempfile.mkdtemp(prefix="hwnas-kills-"))
    began = time.monotonic()
    try:
        work.imports()
        data, log = place / "data", place / "log"
        data.mkdir()
        work.data(data)
        (place / "whole").mkdir()
        whole_s = to_the_end(work, data, place / "whole" / "out", log)
        reference = work.result(place / "whole" / "out")
        done, rounds, starts = 0, 0, 0
        while True:
            rounds += 1
            folder = place / f"round-{rounds}"
            folder.mkdir()
            out, rest = folder / "out", done < kills
            while rest and done < kills:
                starts += 1
                process = child(work, data, out, log)
                code = ended(process, rng.uniform(0.0, 0.75 * whole_s))
                if code is None:
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
                    done += 1
                    work.whole(out)
                elif code:
                    raise SystemExit(f"{name}: resuming failed: {log.read_text(errors='replace')[-2000:]}")
                else:
                    rest = False
            if rest:
                to_the_end(work, data, out, log)
            if work.result(out) != reference:
                raise SystemExit(
                    f"{name}: after {done} kills the result is another one than without: {place}"
                )
            if done >= kills:
                break
            shutil.rmtree(folder)
    except SystemExit:
        raise
    except BaseException:
        print(f"{name}: what is on the disk: {place}", file=sys.stderr)
        raise
    shutil.rmtree(place, ignore_errors=True)
    return {
        "work": name,
        "kills": done,
        "results_compared": rounds,
        "seconds_without_kills": round(whole_s, 2),
        "seconds": round(time.monotonic() - began, 1),
        "same_result": True,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", nargs="*", metavar="WORK", help="all when left out")
    parser.add_argument("--list", action="store_true", help="show the kinds of work and end")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    if options.list:
        print("\n".join(WORK))
        return 0
    if unknown := [name for name in options.work if name not in WORK]:
        parser.error(f"no work {', '.join(unknown)}: see --list")
    os.environ["OMP_NUM_THREADS"] = "1"  # the work's bits must not depend on it, and children are forked
    rows = []
    for name in options.work or WORK:
        rows.append(killed(name, options.kills, options.seed))
        row = rows[-1]
        print(
            f"{name}: {row['kills']} kills, {row['results_compared']} results compared, all the same "
            f"({row['seconds']} s; {row['seconds_without_kills']} s without kills)",
            flush=True,
        )
        if options.out:
            options.out.write_text(json.dumps({"seed": options.seed, "work": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
