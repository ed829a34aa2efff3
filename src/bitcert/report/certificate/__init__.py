"""The report of certificate."""
