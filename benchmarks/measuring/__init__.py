"""What the whole-pipeline benchmark measures with, and what becomes of its figures: results, tables, plots."""
