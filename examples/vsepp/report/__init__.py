"""The page about finished runs, and what it is made from."""
