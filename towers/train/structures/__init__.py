"""Smaller and other bodies and heads, each made from a trained model before anything trains it."""
