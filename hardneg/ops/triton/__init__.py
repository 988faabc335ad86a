"""Fused GPU kernels in Triton: the reductions and the gather for the closed similarities.

Only ``executor.py`` is imported with ``hardneg``; the kernels, and Triton with them, on first use.
"""
