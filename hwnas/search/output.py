"""A search's result as one JSON document: what `hwnas search --json` prints and `front.json` holds."""

from __future__ import annotations

from typing import Any

from hwnas.search.candidate import Candidate
from hwnas.search.run import SearchResult, resume_command

__all__ = ["document"]

SCHEMA = 1


def document(result: SearchResult) -> dict[str, Any]:
    """Plain data; latencies in ms, accuracies in `accuracy_unit`, the front best accuracy first."""
    question = result.question
    return {
        "schema": SCHEMA,
        "device": question.device,
        "budget_ms": question.budget_ms,
        "confidence": question.confidence,
        "provenance": question.provenance,
        "table_digest": question.table_digest,
        "accuracy_estimator": question.accuracy,
        "accuracy_unit": question.accuracy_unit,
        "sampler": question.sampler,
        "trials": len(result.trials),
        "trials_wanted": result.trials_wanted,
        "seed": question.seed,
        "space": question.space["name"],
        "versions": result.versions,
        "run_dir": None if result.path is None else str(result.path),
        "resume_command": None if result.path is None else resume_command(result.path),
        "front": [_entry(candidate) for candidate in result.front],
    }


def _entry(candidate: Candidate) -> dict[str, Any]:
    return {
        "id": candidate.id,
        "latency_ms": candidate.latency.value,
        "latency_low_ms": candidate.latency.low,
        "latency_high_ms": candidate.latency.high,
        "accuracy": candidate.accuracy.value,
        "accuracy_std": candidate.accuracy.std,
        "params": candidate.params,
        "macs": candidate.macs,
        "attentions": list(candidate.attentions),
        "arch": candidate.arch.to_dict(),
    }
