"""Dagster only: policies as an asset graph. All work is done in `engine`; nothing is connected to while loading."""
