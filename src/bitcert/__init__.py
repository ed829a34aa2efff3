"""bitcert."""
