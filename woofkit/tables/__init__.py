"""Every table in markdown."""
