"""Engines: who asks for candidates and evaluates them. A file is an engine.

Each has `run(problem, *, sampler, seed, wanted, done, on_trial, stop)`: it goes on from the trials
in `done` until `wanted` are there in total or `stop()` says so, and hands each new one to `on_trial`
once it is evaluated. What it proposes depends on the seed and on the trials so far alone, so that a
run that was interrupted goes on as if it had not been.
"""
