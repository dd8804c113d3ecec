"""Personal data in values, and what a column is.

`patterns` finds personal data inside of texts, for scrubbing and for the leak scan. The detector is the rest: `names`
(what a column's name says), `formats`, `ids`, `wording` and `words` (what single values are), `values` (a column),
`scoring` and `calibration` (how both are weighed), `detector` (with the rest of the table), `explain` (in words),
`sampling` and `reading` (files). Pure, but for `reading`.
"""
