"""Sweeps: pretraining runs over dotted recipe paths on Ray Tune with Optuna."""
