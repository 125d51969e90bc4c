"""Every error that dualtower raises on purpose.

One module for all packages, so that the command line prints them and the service maps them to HTTP statuses in one
table each. A message names what was found, what was expected and the way out.
"""

from __future__ import annotations


class DualtowerError(Exception):
    """Base of all errors whose message is meant for a person."""


class InputError(DualtowerError, ValueError):
    """A file, row, text or option from the user cannot be used as it is."""


class BundleError(DualtowerError):
    """A bundle is missing, incomplete, corrupt or of a format that this version does not read."""


class ReleaseError(DualtowerError):
    """A release is missing, incomplete or corrupt, or a quality bound forbids publishing it."""


class BundleMismatchError(ReleaseError):
    """A release was built with another bundle than the one that is open."""


class RedisUnavailableError(DualtowerError):
    """Redis did not answer, or answered with an error."""


class MissingDependencyError(DualtowerError):
    """An optional dependency is needed for this command and is not installed."""
