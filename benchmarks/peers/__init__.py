"""What users end to end is measured against, and the part of ours that compares with it like for like.

Everything here takes the landing file of the packaged policy `users` to the 18 columns of `anonymized_users`.
"""
