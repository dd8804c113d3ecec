"""Keys, tokens and sealing: everything that makes raw records unreadable and erasable.

`keyring` derives keys by purpose and version, `sealing` encrypts records under their data subject's own key,
`subjects` keeps the random salt from which that key is derived. Deleting the salt is erasure.
"""
