"""Intervals, seeds, power and calibration."""
