"""Evaluation: masked-token accuracy and the code map, each beside the baselines that give its figures a meaning."""
