"""Better training data: cleaned, augmented, mined, and how much of it is enough."""
