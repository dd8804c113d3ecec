"""What can still be learned about a person from a published table, measured.

Everything is computed from counts: how many records share a combination of values. `relation` says how a table is
asked for such counts, `frame` answers for a file, and the warehouse for a table in PostgreSQL, which does the counting.
`reidentification`, `singling`, `intersection` and `distribution` are the measures, `report` puts them together and
`plot` draws the classes.
"""
