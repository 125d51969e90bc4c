"""The comparison of all techniques on a user's own data: what was measured, how it is timed, how it is told."""
