"""Corpus building on Ray Data, and the packed shards that it leaves."""
