"""Pages about runs: what a folder holds, as one self-contained file."""
