"""Exact and near duplicates: hash passes over all documents of a corpus."""
