"""SIGKILL at any moment: all trials in the end, no network twice, the same as if nothing had happened."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from search_commands import QUESTION, command, evaluated, furnish, wait_for_candidates

from hwnas.search import load_run
from hwnas.search.candidates import CANDIDATES
from hwnas.search.run import FRONT

WAYS = {
    "one by one": (QUESTION, 150),
    "two workers": ((*QUESTION[:-1], "search_fakes:uneven", "--workers", "2"), 150),
    "in batches": ((*QUESTION[:-1], "search_fakes:cheap_by_size"), 600),
}
"""The config, and how many candidates are wanted."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)]
)
def test_a_search_killed_again_and_again_ends_as_one_that_was_not(
    tmp_path: Path, way: str, kills: int
) -> None:
    place, moments = furnish(tmp_path), random.Random(kills)
    run, (config, trials) = place / "run", WAYS[way]
    named = config[config.index("--accuracy") :][:2]
    first = command(place, *config, "--trials", str(trials), "--out", "run")
    wait_for_candidates(run, 1)
    first.kill()
    first.communicate()
    for _ in range(kills - 1):
        before = evaluated(run)
        process = command(place, "--resume", "run", *named)
        if before < trials * 0.8 and moments.random() < 0.7:  # while it evaluates; else: anywhere
            wait_for_candidates(run, before + 1)
            time.sleep(moments.uniform(0, 0.05))
        else:
            time.sleep(moments.uniform(0.2, 1.5))
        process.kill()
        process.communicate()
    out, err = command(place, "--resume", "run", *named, "--json").communicate()
    assert err == ""
    assert json.loads(out)["trials"] == trials
    assert json.loads((run / FRONT).read_text()) == json.loads(out)
    killed = load_run(run).trials
    assert len({trial.id for trial in killed}) == len(killed) == trials
    whole = command(place, *config, "--trials", str(trials), "--out", "whole")
    _, err = whole.communicate()
    assert whole.returncode == 0, err
    assert {trial.id for trial in killed} == {trial.id for trial in load_run(place / "whole").trials}
    if way != "two workers":
        assert (place / "whole" / CANDIDATES).read_bytes() == (run / CANDIDATES).read_bytes()
