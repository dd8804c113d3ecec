"""Anonymity of a whole table: what is demanded, the search for the least loss that gives it, and what is measured.

`requirements` says what a release must satisfy, `ladders` what each quasi-identifier can become, `tuples` what the
table looks like to all of it: its distinct quasi-identifier tuples with counts. Everything here works on those counts
and never on rows, so its memory is bounded by the number of distinct tuples.
"""
