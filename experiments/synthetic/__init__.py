"""Measures drawn images against real ones: classifiers, distances."""
