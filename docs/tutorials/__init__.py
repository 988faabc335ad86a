"""Pages of the tutorials, made by running the scripts ``examples/tutorial_*.py``: ``python -m docs.tutorials``."""
