"""Losses with hard negatives that never build the query x candidate matrix."""
