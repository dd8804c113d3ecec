"""Sources: `splits()` names small, picklable pieces of a source; `read(split)` gives its batches.

A batch holds the rows that have the declared types and, apart from them, the rows that have not: nothing a source
holds is lost on the way.
"""
