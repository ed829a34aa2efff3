"""A survey of many networks as a page, figures and a table for the terminal."""
