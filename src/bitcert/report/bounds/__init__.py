"""The report of bounds."""
