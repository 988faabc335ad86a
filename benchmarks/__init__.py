"""Time and memory of hardneg beside the dense formulas and the peers."""
