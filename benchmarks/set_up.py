"""Seconds and megabytes of a fresh set-up, to the first front.

    python benchmarks/set_up.py                # light (no torch) and full, each in a new environment
    python benchmarks/set_up.py light          # one of them

Packages are downloaded, not taken from pip's cache; the seconds are of this machine and its network.
Prints a table and writes benchmarks/results/set_up.json.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("results") / "set_up.json"
SET_UPS = {"light": str(ROOT), "full": f"{ROOT}[torch,predict,frames,plots]"}
SEARCH = ("search", "--device", "rpi4", "--budget", "20ms")
UNITS = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}


def timed(*words: str, folder: Path) -> tuple[float, str]:
    """Seconds of a command, and what it said."""
    started = time.perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started, done.stdout + done.stderr


def size_mb(folder: Path) -> float:
    """Megabytes of the files in a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir()) / 1e6


def downloaded_mb(said: str) -> float:
    """The sum of what pip says that it fetched, from an index or from a folder of wheels."""
    fetched = re.findall(r"Downloading \S+ \(([\d.]+) (kB|MB|GB)\)", said)
    files = [Path(name) for name in re.findall(r"Processing (\S+\.whl)", said)]
    own = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
    return sum(float(number) * UNITS[unit] for number, unit in fetched) + own


def measured(name: str) -> dict[str, float]:
    """One set-up in an environment of its own, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        made_s, _ = timed(sys.executable, "-m", "venv", "env", folder=folder)
        empty_mb = size_mb(folder / "env")
        python = str(folder / "env" / "bin" / "python")
        install = (
            python,
            "-m",
            "pip",
            "install",
            "--no-cache-dir",
            "--progress-bar",
            "off",
            "-e",
            SET_UPS[name],
        )
        install_s, said = timed(*install, folder=folder)
        search_s, _ = timed(python, "-m", "hwnas", *SEARCH, folder=folder)
        return {
            "environment_s": made_s,
            "install_s": install_s,
            "search_s": search_s,
            "downloaded_mb": downloaded_mb(said),
            "installed_mb": size_mb(folder / "env") - empty_mb,
        }


def main() -> None:
    names = sys.argv[1:] or list(SET_UPS)
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for name in names:
        row = {key: round(value, 1) for key, value in measured(name).items()}
        known[name] = {
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            **row,
        }
        print(
            f"{name}: environment {row['environment_s']} s, install {row['install_s']} s, first front "
            f"{row['search_s']} s; {row['downloaded_mb']} MB downloaded, {row['installed_mb']} MB installed"
        )
        RESULT.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
