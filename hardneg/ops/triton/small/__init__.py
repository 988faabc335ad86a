"""Kernels of whole losses of small batches: the matrix of products stands in memory, every step is one launch."""
