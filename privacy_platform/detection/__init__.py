"""What a value or a column is: evidence of personal data.

Only value patterns so far (:mod:`privacy_platform.detection.patterns`).
"""
