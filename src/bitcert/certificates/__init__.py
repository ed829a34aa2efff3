"""Certificates: made, read and verified."""
