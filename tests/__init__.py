"""Tests: each folder mirrors the folder of the project that it tests."""
