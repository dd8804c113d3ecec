"""Policies: what each column is and what may become of it; the one source of truth of the platform."""
