"""What a trained model reaches: overall, per class, per group."""
