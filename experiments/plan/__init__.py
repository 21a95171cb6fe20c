"""From a config to the objects of a run: what is trained, and how."""
