"""Proof and measurement on a GPU: ``python -m benchmarks.gpu`` (``make gpu``)."""
