"""Samplers: who chooses the next network. A file is a sampler, and an Optuna sampler.

Each has `sampler(problem, *, seed)`. Files with a leading underscore hold what they share. In a study
of one's own:

    sampler = hwnas.search.samplers.auto.sampler(problem, seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    study.optimize(lambda trial: (latency_ms(arch := sampler.suggest(trial)), score(arch)), n_trials=100)

A score that is not exact may say so: `trial.set_user_attr("deviation", std)`. How much of that is
noise, the surrogate of `auto` learns.
"""
