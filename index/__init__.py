"""Titles in, releases out: the offline half of matching, and the reading side that the service opens."""
