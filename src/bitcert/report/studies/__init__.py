"""How the results of studies are shown."""
