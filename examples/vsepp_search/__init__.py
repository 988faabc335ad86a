"""A page over one or two trained models; start reading at ``commands.py``.

``opened``, ``fingerprint``, ``cache`` and ``index`` find, ``atlas`` writes a file, ``page`` (with
``answers`` and ``cards``) shows.
"""
