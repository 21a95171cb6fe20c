"""The launcher: trains, evaluates and reports what a config describes.

Here are its commands. `plan` turns a config into the objects of a run, `run`
trains and keeps it, `evaluation` and `audits` look at what came out. Imports go
one way: commands -> audits, evaluation -> run -> plan.
"""
