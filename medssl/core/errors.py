"""The error tree: every exception that medssl raises on purpose.

A message says where (file, configuration id, case id), what was expected, what was found and what to do.
"""


class MedsslError(Exception):
    """Base of every error that medssl raises on purpose; the command line shows it without a traceback."""


class ConfigError(MedsslError):
    """A bundle configuration or a command-line option that cannot be used."""


class TrustError(ConfigError):
    """A bundle asks for code that bundles do not need; it runs only if the user trusts it explicitly."""


class ManifestError(MedsslError):
    """A manifest that breaks its schema, or a path in it that leaves the data root."""


class ImageError(MedsslError):
    """An image file that cannot be read, or whose content no reader of volumes can use."""


class GeometryError(MedsslError):
    """Grids, affines or spacings that do not fit together."""


class CheckpointError(MedsslError):
    """Weights or a resume file that cannot be loaded as asked."""


class ResourceError(MedsslError):
    """Not enough memory or disk for what was asked."""


class TrainingError(MedsslError):
    """Training that cannot go on, such as a loss that stays non-finite."""


class DependencyError(MedsslError):
    """An optional package is missing; the message names the command that brings it."""
