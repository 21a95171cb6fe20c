"""One recipe a file; each opens with what it gives and the command."""
