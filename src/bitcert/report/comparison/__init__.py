"""The report of comparison."""
