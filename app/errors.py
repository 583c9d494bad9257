"""What can go wrong in a service beyond what the engine knows: its part of the `ReidError` tree."""

from app.reid.errors import LookupFailedError, ReidError


class FileLimitError(ReidError):
    """A part or a zip's member with more bytes than the limit."""


class ArchiveError(ReidError):
    """A zip that is damaged, encrypted or packed in a way that is not read."""


class ArchiveLimitError(ReidError):
    """A zip that unpacks to more than the limits allow."""


class DuplicateImageError(LookupFailedError):
    """Two uploaded photos that answer to the same name."""


class NoImagesError(ReidError):
    """A CSV came without photos, and the service has no image root to look them up in."""


class InvalidRequestError(LookupFailedError):
    """Parts or query parameters that a call does not have, or has only once."""


class MediaTypeError(ReidError):
    """A body that is not multipart/form-data."""


class BusyError(ReidError):
    """As many requests are being worked on as the service takes."""


class NotReadyError(ReidError):
    """The network does not answer."""


class DrainingError(ReidError):
    """The service is going down and takes no new work."""


class IncompleteBodyError(ReidError):
    """A form without its end: it was cut short, and parts of it are lost."""


class BodyTimeoutError(ReidError):
    """A body that stood still for too long."""


class ForwardTimeoutError(ReidError):
    """A photo's forward pass did not end in time."""


class ExplainUnavailableError(ReidError):
    """The bundle's network does not tell what each place of a photo adds to the score."""


class UnauthorizedError(ReidError):
    """No key, or one that is not known."""


class ForbiddenError(ReidError):
    """A call that needs the admin key."""


class RateLimitError(ReidError):
    """More requests of one client than the operator allows. `retry_after_s` is when the next one may come."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BundleRefusedError(ReidError):
    """A bundle that cannot be swapped in; the one being served stays."""


class UnknownJobError(ReidError):
    """There is no such job: it never was, it was deleted, or it was kept for as long as jobs are kept."""


class JobStateError(ReidError):
    """A job's result was asked for that is not there: it is still being worked on, or it was cancelled."""


class StorageError(ReidError):
    """The disk is full, or the room that the operator gave to jobs is."""
