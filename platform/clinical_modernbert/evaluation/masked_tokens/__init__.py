"""Table 4: accuracy at masked tokens, next to counting baselines."""
