"""The way out: a run's model for other programs, and its predictions."""
