"""Error analysis over all seeds of an evaluation."""
