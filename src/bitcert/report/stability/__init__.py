"""The report of stability."""
