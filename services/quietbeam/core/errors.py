"""The error family of quietbeam. Every error may carry a remedy beside its message.

::

    QuietbeamError
    +-- InputError (ValueError)          data or options a caller gave; the message says what to change
    |   +-- ProfileError                 a beamline profile that is wrong or matches nothing
    |   +-- DocumentError                a Bluesky document that cannot be used; goes to quarantine
    |   +-- FileFormatError              a measured file that cannot be read
    +-- NotMeasuredError (LookupError)   a run, line or map that is not there (yet)
    +-- BufferConflictError (RuntimeError)   a run is already buffered with another geometry
    +-- LeaseLostError (RuntimeError)    another process has the right to write this run's maps now
    +-- DamagedRunError (RuntimeError)       files of a run are there and cannot be read; other runs go on
    +-- DataNotReadyError (TimeoutError)     announced data is not yet in its file; retry
    +-- WeightsError (RuntimeError)      weights missing, damaged or of an unknown version
    +-- ServiceError (RuntimeError)      something quietbeam stands on (Redis, Tiled, a port) is unusable
"""

from __future__ import annotations


class QuietbeamError(Exception):
    """Base of every error that quietbeam raises on purpose.

    Parameters
    ----------
    message
        What is wrong.
    remedy
        What to do about it; printed after the message.
    """

    def __init__(self, message: str = "", *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class InputError(QuietbeamError, ValueError):
    """Input that cannot be used; the message says what was wrong and what to do."""


class ProfileError(InputError):
    """A beamline profile that is wrong, or that matches nothing in a run."""


class DocumentError(InputError):
    """A Bluesky document that cannot be used."""


class FileFormatError(InputError):
    """A file that cannot be read as a measured map."""


class MapTooLargeError(InputError):
    """A map that does not fit into the memory that is free now."""


class NotMeasuredError(QuietbeamError, LookupError):
    """A run, line or map that does not exist (yet)."""


class BufferConflictError(QuietbeamError, RuntimeError):
    """A run is already buffered with another geometry."""


class LeaseLostError(QuietbeamError, RuntimeError):
    """The right to write a run's maps has gone to another process; what was computed for them is of no use."""


class DamagedRunError(QuietbeamError, RuntimeError):
    """Files of a run are there and cannot be read.

    Parameters
    ----------
    uid
        The run.
    """

    def __init__(self, message: str = "", *, remedy: str = "", uid: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.uid = uid


class DataNotReadyError(QuietbeamError, TimeoutError):
    """Data was announced, but its file does not hold it yet; worth a retry."""


class WeightsError(QuietbeamError, RuntimeError):
    """Weights are missing, damaged or of an unknown version."""


class ServiceError(QuietbeamError, RuntimeError):
    """A server that quietbeam stands on cannot be used."""
