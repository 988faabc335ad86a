"""Losses and miners in the form that other libraries' trainers take, one module a library, imported by its name."""
