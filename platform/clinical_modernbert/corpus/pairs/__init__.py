"""Pair sets: built from vocabularies, held out by concept across all of them, read by training and evaluation."""
