"""A user's own images and captions: a table, or a folder as the ``datasets`` library lays it out."""
