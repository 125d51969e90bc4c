"""More pretraining on one's own text, with chosen masks."""
