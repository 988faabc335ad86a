"""Data sets: from files, or drawn, to splits, pairs and batches."""
