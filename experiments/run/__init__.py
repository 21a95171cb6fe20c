"""The training loop, and what keeps a run: its folder, log and summary."""
