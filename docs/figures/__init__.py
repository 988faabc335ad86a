"""Pictures of the documentation, drawn from what the library selects and from measured rows."""
