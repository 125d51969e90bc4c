"""Cross-encoders: training, graphs, what they cost, and what they teach the scorer."""
