"""Students that learn to answer as a teacher does, and query towers over titles that keep their vectors."""
