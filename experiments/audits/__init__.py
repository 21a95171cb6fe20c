"""Whether a run keeps its claim: canaries, and replays of its steps."""
