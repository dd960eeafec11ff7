"""A search's result as one JSON document: what `hwnas search --json` prints and `front.json` holds."""

from __future__ import annotations

from typing import Any

from hwnas.search.run import SearchResult, resume_command
from hwnas.search.trial import Candidate

__all__ = ["document", "verification_text"]

FORMAT_VERSION = 2  # 1: `others` besides the first device; 2: `targets`


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
        "confidence": config.confidence,
        "accuracy_estimator": config.accuracy,
        "accuracy_unit": config.accuracy_unit,
        "sampler": config.sampler,
        "trials": len(result.trials),
        "trials_wanted": result.trials_wanted,
        "evaluated": result.evaluated,
        "complete": result.is_complete,
        "source": result.source or None,
        "seed": config.seed,
        "space": config.space["name"],
        "versions": result.versions,
        "run_dir": None if result.path is None else str(result.path),
        "resume_command": None if result.path is None else resume_command(result.path),
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
    within, of = known.within(result.config.targets[0].budget_ms, round=1)
    text = (
        f"Verified: {len(known.measured)} networks measured in {known.rounds} round(s). Of the {of} of the "
        f"first round, which were predicted within the budget, {within} were within it"
    )
    correction = known.correction
    if correction is None:
        return text + "."
    if correction.method == "none":
        return text + (
            ". The table needed no correction: its mean error on them is "
            f"{correction.mape_before_percent:.1f} %."
        )
    return text + (
        f". The table was corrected ({correction.method}, everything times {correction.factor:.3f}"
        f"{' or its own factor by kind' if correction.factors else ''}): mean error "
        f"{correction.mape_before_percent:.1f} % before, {correction.mape_after_percent:.1f} % after, each "
        "network predicted from the others."
    )


def _verification(result: SearchResult) -> dict[str, Any]:
    """How verifying went; the front holds measured networks once `complete` and `current` say so."""
    known = result.verification
    assert known is not None
    within, of = known.within(result.config.targets[0].budget_ms, round=1)
    correction = known.correction
    return {
        "complete": known.is_complete,
        "current": result.is_verified,
        "started": known.started,
        "finished": known.finished or None,
        "rounds": known.rounds,
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
    measured = candidate.measured
    return {
        "id": candidate.id,
        "latency_ms": candidate.latency.value,
        "latency_low_ms": candidate.latency.low,
        "latency_high_ms": candidate.latency.high,
        "measured_ms": None if measured is None else measured.value,
        "measured_low_ms": None if measured is None else measured.low,
        "measured_high_ms": None if measured is None else measured.high,
        "corrected_ms": None if candidate.corrected is None else candidate.corrected.value,
        "accuracy": candidate.accuracy.value,
        "accuracy_std": candidate.accuracy.std,
        "params": candidate.params,
        "macs": candidate.macs,
        "also": {
            name: {"value": one.value, "low": one.low, "high": one.high, "unit": one.unit}
            for name, one in candidate.also.items()
        },
        "attentions": list(candidate.attentions),
        "arch": candidate.arch.to_dict(),
    }
