"""The page in Debian's chromium, against real servers. Without CHROMIUM, which `make test-browser` sets, it rests."""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.reid.placed import save_placed
from tests.reliability.harness import ROOT, Server

collect_ignore_glob = [] if os.environ.get("CHROMIUM") else ["test_*.py"]

DEFAULT = ROOT / "model_store" / "default"
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE_MS = 30_000
# What a browser itself says of every answer that is no success.
REFUSED = re.compile(r"Failed to load resource: ")


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """The browser; ours alone may run without its sandbox, which root cannot have."""
    from playwright.sync_api import expect, sync_playwright  # noqa: PLC0415 - `make test` collects this file without it

    expect.set_options(timeout=PATIENCE_MS)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium) -> Iterator[Callable]:
    """`visit(url, view="", **context)` -> a page in a browser of its own. Scripts that failed fail the test."""
    said: list[str] = []
    contexts = []

    def open_page(url: str, view: str = "", **options):
        context = chromium.new_context(**{"viewport": DESK, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        # While somebody listens, choosers are kept from opening; `expect_file_chooser` alone may begin too late.
        page.on("filechooser", lambda _: None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
        page.goto(f"{url}/#{view}" if view else url)
        page.wait_for_selector("html:not([data-starting])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [line for line in said if not REFUSED.match(line)] == []


@pytest.fixture(scope="session")
def placed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 x 6 places, each with weights of its own; cut-outs are laid on (200, 120, 40)."""
    return save_placed(tmp_path_factory.mktemp("bundles") / "placed")


@pytest.fixture(scope="session")
def site(placed_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tests may share: it has no keys and no limits, and nobody stops it."""
    server = Server(tmp_path_factory.mktemp("site"), placed_bundle).start()
    yield server
    server.close()


@pytest.fixture
def start(placed_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """`start(bundle=None, **JAGUAR_...)` -> a server of the test's own."""
    with ExitStack() as stack:

        def run(bundle: Path | None = None, **environment: str) -> Server:
            server = Server(tmp_path_factory.mktemp("server"), bundle or placed_bundle, **environment)
            stack.callback(server.close)
            return server.start()

        yield run


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, draw, encode) -> Path:
    """Nine photos p1.png to p9.png, one of them below a folder of its own, and two files that are no photos."""
    root = tmp_path_factory.mktemp("photos") / "cats"
    (root / "night").mkdir(parents=True)
    for number in range(1, 10):
        name = f"night/p{number}.png" if number == 9 else f"p{number}.png"
        (root / name).write_bytes(encode(draw(number, size=(96 + 4 * number, 72))))
    (root / "notes.txt").write_text("no photo")
    (root / ".hidden.png").write_bytes(b"no photo either")
    return root


def url(server: Server) -> str:
    """Where a server's page is."""
    return f"http://127.0.0.1:{server.port}"


def embeddings(server: Server, files: list[Path]) -> np.ndarray:
    """(N, D) float64 unit rows, by the service's .npy and not by its JSON, which the page reads."""
    parts = [("images", (path.name, path.read_bytes())) for path in files]
    answer = server.post("/embed", files=parts, headers={"accept": "application/x-npy"})
    wide = np.load(io.BytesIO(answer.content)).astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def layout_shift(page) -> float:
    """How much of the page has moved by itself since it was opened: the sum of Chromium's layout-shift entries."""
    return page.evaluate(
        """() => new Promise((resolve) => {
            let sum = 0;
            new PerformanceObserver((list) => {
                for (const entry of list.getEntries()) sum += entry.value;
            }).observe({ type: "layout-shift", buffered: true });
            setTimeout(() => resolve(sum), 200);
        })"""
    )
