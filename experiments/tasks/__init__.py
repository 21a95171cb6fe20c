"""What a run learns: one task a file, found by its name in `registry.py`."""
