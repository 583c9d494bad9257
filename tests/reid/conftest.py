"""Real photos and tables where a checkout has them beside it; tests that want them skip aloud where it has not."""

from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """`shared_data("nyala/train")` -> that path below ../shared/data."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"no shared/data/{name} beside the checkout")
        return path

    return find
