"""Sweeps: many runs of one config, with what all of them together cost."""
