"""Recomputed tiles: every reduction in memory proportional to a tile, on any device."""
