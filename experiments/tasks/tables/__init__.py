"""What the task of tables is made of."""
