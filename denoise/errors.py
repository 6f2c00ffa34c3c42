"""The errors of this library, one class for each thing a caller may want to treat apart.

Every message says what was asked, what was found, what was expected and what to do.
Libraries raise; only ``cli/console.py`` catches.
"""

from __future__ import annotations

from noise_models.names import nearest as nearest


class DenoiseError(Exception):
    """Anything this library refuses to do, with the reason and the remedy in one line."""


class UsageError(DenoiseError):
    """A call whose parts do not fit together; nothing was begun."""


class FileFormatError(DenoiseError):
    """A file that cannot be read, or written, as what it claims to be."""


class UnsupportedInputError(FileFormatError):
    """A sound file of a kind that this library does not serve (yet)."""


class VerificationError(FileFormatError):
    """A file that was written and, read again, does not agree with its source."""


class WeightsError(DenoiseError):
    """A model that is not known, not there, altered, or not fit for the image."""


class ManifestError(DenoiseError):
    """A dataset description that is wrong, or data that is not where it says."""


class RecipeError(DenoiseError):
    """A training recipe with unknown keys or values outside their range."""


class DeviceError(DenoiseError):
    """A device, a precision or a memory budget that cannot be served."""


class OutOfMemoryError(DeviceError):
    """The smallest tile does not fit into the memory that was promised."""


class ShapeError(DenoiseError):
    """An array whose shape does not fit what it is used for."""
