"""A run under way: its folder, its state, what may interrupt it, and what it tells."""
