"""The losses: one file each, its choices (the constructor) and its equation (``terms``).

``base`` has what they have in common, ``inputs`` makes a comparison of the arguments, ``terms/`` holds the
parts of their equations. To add a loss: one file here, a line in ``hardneg/functional.py`` and one in
``hardneg/__init__.py``.
"""
