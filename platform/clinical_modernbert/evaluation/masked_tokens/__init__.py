"""Table 4: accuracy on masked tokens, beside counting baselines."""
