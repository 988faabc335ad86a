"""The losses: one file a family, the function (the meaning) beside its module (the choices).

The engines that they share: ``inputs`` (arguments to a comparison), ``mining`` (the picked negatives),
``margin``, ``softmax``, ``pair_terms`` and ``two_sided`` (terms), ``terms`` (reductions, statistics).
To add a loss: one file here, a line in ``hardneg/functional.py`` and one in ``hardneg/__init__.py``.
"""
