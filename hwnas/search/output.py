"""A search's result as one JSON document: what `hwnas search --json` prints and `front.json` holds."""

from __future__ import annotations

import dataclasses
from typing import Any

from hwnas.search.run import SearchResult, resume_command
from hwnas.search.trial import Candidate, estimate_fields
from hwnas.search.verification import Corrected, Stage, Verification

__all__ = ["document", "stage_text", "verification_text"]

FORMAT_VERSION = 3
# 1: `others` besides the first device; 2: `targets`; 3: networks in the form of candidates.jsonl


def document(result: SearchResult) -> dict[str, Any]:
    """Plain data; latencies in ms, accuracies in `accuracy_unit`, the front best accuracy first."""
    config = result.config
    return {
        "schema": FORMAT_VERSION,
        "device": ", ".join(config.devices),
        "budget_ms": config.targets[0].budget_ms,
        "provenance": config.provenance,
        "targets": [
            {
                "device": target.device,
                "budget_ms": target.budget_ms,
                "table_digest": table.digest,
                "provenance": table.provenance,
            }
            for target, table in zip(config.targets, config.tables, strict=True)
        ],
        "budget_on": config.budget_on,
        "limits": dict(config.limits),
        "objectives": list(config.objectives),
        "configurations": [dataclasses.asdict(one) for one in config.configurations],
        "confidence": config.confidence,
        "accuracy_estimator": config.accuracy,
        "accuracy_unit": config.accuracy_unit,
        "sampler": config.sampler,
        "trials": len(result.trials),
        "trials_wanted": result.trials_wanted,
        "evaluated": result.evaluated,
        "complete": result.is_complete,
        "exact": result.is_exact,
        "source": result.source or None,
        "seed": config.seed,
        "space": config.space["name"],
        "versions": result.versions,
        "run_dir": None if result.path is None else str(result.path),
        "resume_command": None
        if result.path is None
        else resume_command(result.path, result.config.accuracy),
        "verification": None if result.verification is None else _verification(result),
        "front": [_entry(candidate) for candidate in result.front],
    }


def verification_text(result: SearchResult) -> str:
    """How a finished verification went, in words.

    Raises ValueError for a run without one.
    """
    known = result.verification
    if known is None or not known.is_complete:
        raise ValueError("this run has no finished verification")
    within, of = _first(known, result.config.targets[0].budget_ms)
    rounds = max(known.rounds - len(known.stages), 0)
    text = (
        f"Verified: {len(known.measured)} networks measured in {rounds} round(s). Of the {of} of the first "
        f"round, which were predicted within the budget, {within} were within it. "
        f"{_correction_text(known.correction)}"
    )
    during = [
        f"In the search, after stage {number}: {stage_text(stage)}"
        for number, stage in enumerate(known.stages, start=1)
    ]
    return " ".join([text.strip(), *during])


def stage_text(stage: Stage) -> str:
    """What was measured after a stage of a search, in words."""
    if not stage.measured:
        return "no network was unsure, none was measured."
    return (
        f"{stage.measured} networks whose interval contains the budget were measured, {stage.within} are "
        f"within it. {_correction_text(stage.correction)}"
    )


def _first(known: Verification, budget_ms: float) -> tuple[int, int]:
    """Networks within the budget, and of how many, in the first round that measured the front."""
    return known.within(budget_ms, round=len(known.stages) + 1)


def _correction_text(correction: Corrected | None) -> str:
    if correction is None:
        return ""
    if correction.method == "none":
        return (
            "The table needed no correction: its mean error on them is "
            f"{correction.mape_before_percent:.1f} %."
        )
    return (
        f"The table was corrected ({correction.method}, everything times {correction.factor:.3f}"
        f"{' or its own factor by kind' if correction.factors else ''}): mean error "
        f"{correction.mape_before_percent:.1f} % before, {correction.mape_after_percent:.1f} % after, each "
        "network predicted from the others."
    )


def _verification(result: SearchResult) -> dict[str, Any]:
    """How verifying went; the front holds measured networks once `complete` and `current` say so."""
    known = result.verification
    assert known is not None
    within, of = _first(known, result.config.targets[0].budget_ms)
    correction = known.correction
    return {
        "complete": known.is_complete,
        "current": result.is_verified,
        "started": known.started,
        "finished": known.finished or None,
        "rounds": max(known.rounds - len(known.stages), 0),
        "stages": [dataclasses.asdict(stage) for stage in known.stages],
        "measured": len(known.measured),
        "first_measured": of,
        "first_within_budget": within,
        "correction": None if correction is None else correction.method,
        "correction_factor": None if correction is None else correction.factor,
        "mape_before_percent": None if correction is None else correction.mape_before_percent,
        "mape_after_percent": None if correction is None else correction.mape_after_percent,
        "profile": dict(known.profile),
    }


def _entry(candidate: Candidate) -> dict[str, Any]:
    """Its line in candidates.jsonl, what was measured of it, and its architecture."""
    trial = candidate.trial.to_dict()
    trial.pop("notes", None)
    return {
        "configuration": candidate.configuration or None,
        "also": {},
        **trial,
        **estimate_fields("measured{}_ms", candidate.measured),
        **estimate_fields("corrected{}_ms", candidate.corrected),
        "attentions": list(candidate.attentions),
        "arch": candidate.arch.to_dict(),
    }
