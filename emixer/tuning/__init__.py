"""Hyperparameter search: Optuna proposes and remembers, Ray Tune runs. Independent of what a trial does."""
