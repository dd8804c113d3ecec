"""Differential privacy: how much is lost, and the mechanisms that lose no more."""
