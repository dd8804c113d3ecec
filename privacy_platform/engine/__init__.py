"""The engine: Spark schedules and shuffles, Polars computes, COPY moves the rows.

Everything here is free of Dagster, so that a release can be made from a test, a benchmark or a command as well.
"""
