"""Contrastive training of an encoder on pairs of texts, with the checkpoints, records and launch of pretraining."""
