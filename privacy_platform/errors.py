"""Errors of the platform.

Every message names the thing that is wrong and the mend. No message ever holds a data value, a key or a
password: messages end in logs, in Dagster's event log and on screens.
"""


class PrivacyPlatformError(Exception):
    """Base of all errors a user can mend."""


class SettingsError(PrivacyPlatformError):
    """An environment variable or a state directory is unusable."""
