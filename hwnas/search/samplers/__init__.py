"""Samplers: who chooses the next network. A file is a sampler, and an Optuna sampler.

Each has `sampler(problem, *, seed)`. Files with a leading underscore hold what they share.
"""
