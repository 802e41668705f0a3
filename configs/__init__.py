"""Shipped configurations: `default` holds every value, the others are short diffs on it."""
