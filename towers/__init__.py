"""dualtower's towers: text to vectors to scores.

from towers import open_bundle
bundle = open_bundle()
bundle.score(bundle.encode_queries(["usb c cable"])[0], bundle.encode_titles(["USB-C charging cable, 2 m"]))
"""

from towers.bundle import Bundle, Manifest, open_bundle
from towers.errors import (
    BundleError,
    BundleMismatchError,
    DualtowerError,
    InputError,
    MissingDependencyError,
    RedisUnavailableError,
    ReleaseError,
)

__all__ = [
    "Bundle",
    "BundleError",
    "BundleMismatchError",
    "DualtowerError",
    "InputError",
    "Manifest",
    "MissingDependencyError",
    "RedisUnavailableError",
    "ReleaseError",
    "open_bundle",
]
