"""What several tests use: oracles, losses, launchers and made data sets."""
