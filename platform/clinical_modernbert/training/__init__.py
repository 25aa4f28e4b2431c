"""Training: the order of the rows, batches, the engine seam, checkpoints, the loop and its launch on Ray Train."""
