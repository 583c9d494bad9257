"""The error tree and its sentences."""

import pytest

from app.reid import errors
from app.reid.errors import (
    AmbiguousImageError,
    BundleError,
    ConfigError,
    DataError,
    ImageError,
    ListedError,
    LookupFailedError,
    PixelLimitError,
    ReidError,
    RowLimitError,
    TableError,
    UnknownImageError,
    UnsafeNameError,
    UnsupportedFormatError,
    quote,
)


def test_the_tree_is_the_one_in_the_docstring() -> None:
    tree = {
        BundleError: ReidError,
        ConfigError: ReidError,
        DataError: ListedError,
        ImageError: ReidError,
        UnsupportedFormatError: ImageError,
        PixelLimitError: ImageError,
        TableError: ListedError,
        RowLimitError: TableError,
        LookupFailedError: ListedError,
        UnknownImageError: LookupFailedError,
        AmbiguousImageError: LookupFailedError,
        UnsafeNameError: LookupFailedError,
    }
    assert {child: child.__mro__[1] for child in tree} == tree
    named = {thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, ReidError)}
    assert named == {*tree, ListedError, ReidError}
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in named - {ListedError})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a.png", "'a.png'"),
        ("it's", '"it\'s"'),
        ("line\nbreak\0", r"'line\nbreak\x00'"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
        ("right\u202eleft", r"'right\u202eleft'"),
        ("Jagüar", "'Jagüar'"),
        ("x" * 200, "'" + "x" * 200 + "'"),
        ("x" * 201, "'" + "x" * 199 + "…'"),
    ],
)
def test_quote_escapes_and_cuts(text: str, shown: str) -> None:
    assert quote(text) == shown


def test_a_lone_surrogate_is_quoted_as_text_that_can_be_written() -> None:
    assert quote("\udc80").encode() == rb"'\udc80'"


def test_twenty_problems_are_shown_and_all_are_kept() -> None:
    problems = [f"line {number}" for number in range(2, 25)]
    error = TableError("pairs: 23 problems", problems)
    assert error.summary == "pairs: 23 problems"
    assert error.all_problems == tuple(problems)
    assert error.problems == tuple(problems[:20])
    assert str(error) == "; ".join(["pairs: 23 problems", *problems[:20], "and 3 more"])


def test_exactly_twenty_problems_leave_nothing_out() -> None:
    problems = [str(number) for number in range(20)]
    assert str(DataError("s", problems)) == "; ".join(["s", *problems])


def test_a_summary_alone_is_the_message() -> None:
    error = RowLimitError("pairs: more than 3 rows; split the file")
    assert (str(error), error.problems) == ("pairs: more than 3 rows; split the file", ())
