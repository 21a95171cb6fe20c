"""The launcher: trains, evaluates and reports what a config describes."""
