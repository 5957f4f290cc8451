"""Faster forms of the core, each proven equal to the plain one."""
