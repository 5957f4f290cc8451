"""`make fuzz`: break woofkit on purpose, kind by kind, and count what was lost."""
