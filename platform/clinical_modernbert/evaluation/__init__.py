"""Evaluation of encoders: tasks, masked tokens, the code map and efficiency, each next to baselines, in one report."""
