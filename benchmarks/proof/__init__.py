"""The proof that the service holds: under load, over time, through faults; each script says what it asks."""
