"""The reductions over the scores, each with a dense definition and a tiled implementation."""
