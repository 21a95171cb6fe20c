"""Metrics with standard errors: what a task's numbers are computed by."""
