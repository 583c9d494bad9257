"""The CSV contracts: `train.csv`, pairs, `test.csv` and its submission. The only home of the competition's columns.

Further columns are welcome. All problems of a file are found at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from app.reid.rows import Block, RowReader, Unique, read_rows, write_rows

FILENAME, IDENTITY = "filename", "ground_truth"
QUERY, GALLERY, ROW_ID = "query_image", "gallery_image", "row_id"
SCORE_COLUMNS = ("cosine", "similarity", "probability", "verdict")
SUBMISSION_COLUMNS = (ROW_ID, "similarity")
DEFAULT_MAX_ROWS = 999_999


@dataclass(frozen=True)
class Table:
    """A CSV in memory: `rows` in file order, each as long as `columns`; `lines` holds the line where each row ends."""

    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """All values of one column, in file order."""
        position = self.columns.index(name)
        return [row[position] for row in self.rows]


@dataclass(frozen=True, eq=False)
class PairTable:
    """A CSV of M pairs that stays as its bytes: rows as Python's objects take ten times as much.

    `names` are the distinct photo names in order of first use, `first_lines` (N,) the line of that use. `query` and
    `gallery` are (M,) positions among them, in file order.
    """

    data: bytes
    columns: tuple[str, ...]
    names: list[str]
    first_lines: NDArray[np.int64]
    query: NDArray[np.int32]
    gallery: NDArray[np.int32]

    def __len__(self) -> int:
        """M, the number of rows."""
        return len(self.query)

    def rows(self) -> Iterator[list[str]]:
        """The rows in file order, read from the bytes again."""
        return read_rows(self.data)

    def column(self, name: str) -> Iterator[str]:
        """All values of one column in file order, read from the bytes again."""
        return map(itemgetter(self.columns.index(name)), self.rows())


def read_train(data: bytes) -> Table:
    """`train.csv`: a photo's `filename` and the animal's name, `ground_truth`; each filename once.

    Raises:
        TableError: every line that breaks this.
    """
    reader = RowReader(data, "train.csv", (FILENAME, IDENTITY), DEFAULT_MAX_ROWS)
    filenames = Unique(reader, FILENAME)
    rows: list[list[str]] = []
    lines: list[int] = []
    for block in reader.blocks():
        filenames.add(block)
        rows += block.rows
        lines += block.lines
    filenames.find_repeated()
    reader.problems.raise_any(reader.name)
    return Table(reader.columns, rows, lines)


def read_pairs(data: bytes, *, max_rows: int = DEFAULT_MAX_ROWS) -> PairTable:
    """A CSV of pairs to score: `query_image`, `gallery_image`, and none of the columns that the answer adds.

    Raises:
        TableError: every line that breaks this. RowLimitError: more than `max_rows` rows.
    """
    reader = RowReader(data, "pairs", (QUERY, GALLERY), max_rows)
    for name in SCORE_COLUMNS:
        if name in reader.columns:
            reader.problems.add(f"line 1: the column {name} is what the answer adds; rename or drop it")
    names = _Names()
    for block in reader.blocks():
        names.add(block)
    reader.problems.raise_any(reader.name)
    return names.table(reader)


def read_test(data: bytes, *, max_rows: int = DEFAULT_MAX_ROWS) -> PairTable:
    """The competition's `test.csv`: `row_id` (each once), `query_image`, `gallery_image`.

    Raises:
        TableError: every line that breaks this. RowLimitError: more than `max_rows` rows.
    """
    reader = RowReader(data, "test_csv", (ROW_ID, QUERY, GALLERY), max_rows)
    names, row_ids = _Names(), Unique(reader, ROW_ID)
    for block in reader.blocks():
        names.add(block)
        row_ids.add(block)
    row_ids.find_repeated()
    reader.problems.raise_any(reader.name)
    return names.table(reader)


def format_score(value: float) -> str:
    """Nine significant digits: float32 resolution, so that rounding ties nothing."""
    return f"{value:.9g}"


def write_submission(row_ids: Iterable[str], similarity: Iterable[float]) -> Iterator[str]:
    """The submission as pieces of text: exactly `row_id,similarity`, in the order given."""
    rows = zip(row_ids, map(format_score, similarity), strict=True)
    return write_rows(SUBMISSION_COLUMNS, rows)


def write_scored_pairs(table: PairTable, scores: Iterable[Sequence[str]]) -> Iterator[str]:
    """The pairs as pieces of text: the input's columns, then `SCORE_COLUMNS`, in the input's order."""
    rows = ([*row, *score] for row, score in zip(table.rows(), scores, strict=True))
    return write_rows((*table.columns, *SCORE_COLUMNS), rows)


class _Names:
    """Numbers for a table's photo names, in order of first use."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__
        self._first_lines: list[NDArray[np.int64]] = []
        self._blocks: list[NDArray[np.int32]] = []

    def add(self, block: Block) -> None:
        """Numbers the names in some rows."""
        known = len(self._numbers)
        names = chain.from_iterable(zip(block.columns[QUERY], block.columns[GALLERY], strict=True))
        numbers = np.fromiter(map(self._numbers.__getitem__, names), dtype=np.int32, count=2 * len(block.rows))
        self._blocks.append(numbers)
        if len(self._numbers) > known:
            used, places = np.unique(numbers, return_index=True)
            self._first_lines.append(np.asarray(block.lines, dtype=np.int64)[places[used >= known] // 2])

    def table(self, reader: RowReader) -> PairTable:
        """The pairs of all blocks; the reader is the one that they came from."""
        query, gallery = np.concatenate(self._blocks).reshape(-1, 2).T.copy()
        first_lines = np.concatenate(self._first_lines)
        return PairTable(reader.data, reader.columns, list(self._numbers), first_lines, query, gallery)
