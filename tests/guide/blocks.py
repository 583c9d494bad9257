"""The README's code blocks: where each stands, and what is in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
# A reader's shell and a reader's program; other languages (an answer in JSON) are shown and not run.
RUN = ("console", "python")
_FENCE = re.compile(r"```(\w*)\s*")


@dataclass(frozen=True)
class Block:
    """One fenced block. line: of its first command in the README, from 1."""

    heading: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """What a test's id calls it."""
        return f"{self.heading.lower().replace(' ', '-')}-line-{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines without comments, a continued line as one command."""
        joined = self.text.replace("\\\n", " ")
        bare = (re.sub(r"(^|\s+)#( .*)?$", "", line) for line in joined.splitlines())
        return [" ".join(line.split()) for line in bare if line.strip()]


def blocks_of(text: str) -> Iterator[Block]:
    """All fenced blocks of a Markdown text, in order. Raises ValueError: one is not closed."""
    heading, language, start, inside = "top", "", 0, []
    is_open = False
    for number, line in enumerate(text.splitlines(), start=1):
        if fence := _FENCE.fullmatch(line):
            if is_open:
                yield Block(heading, start, language, "\n".join(inside))
            is_open, language, start, inside = not is_open, fence[1], number + 1, []
        elif is_open:
            inside.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    if is_open:
        raise ValueError(f"the block at line {start} is not closed")


def readme_blocks() -> list[Block]:
    """The README's blocks that are run."""
    return [block for block in blocks_of(README.read_text(encoding="utf-8")) if block.language in RUN]
