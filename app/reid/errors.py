"""What can go wrong, as one tree. `app.problems` turns each class into an HTTP answer, the command lines into exit 2.

    ReidError
    ├── BundleError          a model bundle that is missing, damaged or of another kind
    ├── ConfigError          a training config or a setting that cannot be used
    ├── DataError            a data set that cannot be trained or evaluated on; `problems` lists every finding
    ├── ImageError           a picture that cannot be read
    │   ├── UnsupportedFormatError   neither JPEG, PNG nor WebP
    │   └── PixelLimitError          more pixels than the limit
    ├── TableError           a CSV that breaks its contract; `problems` lists every finding
    │   └── RowLimitError        more rows than the limit
    └── LookupFailedError    photos that a table names and that cannot be used
        ├── UnknownImageError        named, but not there
        ├── AmbiguousImageError      two different files match
        └── UnsafeNameError          a name that leads out of its folder

Every message is one sentence meant for a person: what, where, the limit, the way out. No message holds a server path.
"""

from collections.abc import Sequence

SHOWN_PROBLEMS = 20
QUOTE_LIMIT = 200


def quote(text: str) -> str:
    """A client's own words made safe to repeat: escaped, in quotes, cut at 200 characters."""
    cut = text if len(text) <= QUOTE_LIMIT else text[: QUOTE_LIMIT - 1] + "…"
    return repr(cut)


class ReidError(Exception):
    """Base of all errors that the engine raises on purpose."""


class BundleError(ReidError):
    """A model bundle that is missing, damaged or of another kind."""


class ConfigError(ReidError):
    """A training config or a setting that cannot be used."""


class ImageError(ReidError):
    """A picture that cannot be read."""


class UnsupportedFormatError(ImageError):
    """Neither JPEG, PNG nor WebP, by content."""


class PixelLimitError(ImageError):
    """More pixels than the limit; found in the header, before anything is decoded."""


class ListedError(ReidError):
    """An error with many findings: `all_problems`, of which `problems` and the message hold the first 20."""

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        self.summary = summary
        self.all_problems = tuple(problems)
        self.problems = self.all_problems[:SHOWN_PROBLEMS]
        hidden = len(self.all_problems) - len(self.problems)
        tail = [f"and {hidden} more"] if hidden > 0 else []
        super().__init__("; ".join([summary, *self.problems, *tail]))


class DataError(ListedError):
    """A data set that cannot be trained or evaluated on."""


class TableError(ListedError):
    """A CSV that breaks its contract."""


class RowLimitError(TableError):
    """More rows than the limit."""


class LookupFailedError(ListedError):
    """Photos that a table names and that cannot be used."""


class UnknownImageError(LookupFailedError):
    """A photo that is named but not there."""


class AmbiguousImageError(LookupFailedError):
    """A name that two different files match."""


class UnsafeNameError(LookupFailedError):
    """A name that leads out of its folder, or that no file can have."""
