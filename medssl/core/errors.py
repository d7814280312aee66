"""The error tree: every exception that medssl raises on purpose.

A message says where (file, configuration id, case id), what was expected, what was found and what to do.
"""


class MedsslError(Exception):
    """Base of every error that medssl raises on purpose; the command line shows it without a traceback.

    Args:
        text: Where, what was expected and what was found; and what to do, unless `fix` says it.
        fix: What the user can do about it; shown behind the text.
        code: Stable short name of the failure, as findings carry it; by default the class's own.
    """

    code = "error"

    def __init__(self, text: str = "", *, fix: str = "", code: str | None = None) -> None:
        super().__init__(f"{text} {fix}" if fix else text)
        self.text = text
        self.fix = fix
        self.code = code or type(self).code


class ConfigError(MedsslError):
    """A bundle configuration or a command-line option that cannot be used."""

    code = "config"


class TrustError(ConfigError):
    """A bundle asks for code that bundles do not need; it runs only if the user trusts it explicitly."""

    code = "trust"


class ManifestError(MedsslError):
    """A manifest that breaks its schema, or a path in it that leaves the data root."""

    code = "manifest"


class ImageError(MedsslError):
    """An image file that cannot be read, or whose content no reader of volumes can use."""

    code = "image"


class GeometryError(MedsslError):
    """Grids, affines or spacings that do not fit together."""

    code = "geometry"


class CheckpointError(MedsslError):
    """Weights or a resume file that cannot be loaded as asked."""

    code = "checkpoint"


class ResourceError(MedsslError):
    """Not enough memory or disk for what was asked."""

    code = "resource"


class TrainingError(MedsslError):
    """Training that cannot go on, such as a loss that stays non-finite."""

    code = "training"


class DependencyError(MedsslError):
    """An optional package is missing; the message names the command that brings it."""

    code = "dependency"
