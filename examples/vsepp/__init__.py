"""VSE++ from data on disk to a table of results; start reading at ``train.py``."""
