"""Engines: where candidates are evaluated. A file is an engine.

Each has `run(problem, *, sampler, seed, wanted, done, on_trials, stop, ...)`: it goes on from the trials
in `done` until `wanted` are there in total or `stop()` says so, and hands new ones to `on_trials` once
they are evaluated. What it proposes depends on the seed, on the trials so far and on the number of
workers alone, so that a run that was interrupted goes on as if it had not been.

`hwnas.search.execution.ask_tell` is what all engines share: they only bring an `Evaluator`.
"""
