"""Fused GPU kernels in Triton: the reductions and the gather for the built-in similarities.

Nothing here is imported with ``hardneg`` but ``support.py``; the kernels, and Triton with them, on first use.
"""
