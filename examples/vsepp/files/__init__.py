"""Files of a user's, opened and checked, and our own, written whole or not at all."""
