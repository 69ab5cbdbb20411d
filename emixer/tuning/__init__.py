"""Hyperparameter search: Optuna proposes and remembers, Ray Tune runs. Knows nothing of what a trial does."""
