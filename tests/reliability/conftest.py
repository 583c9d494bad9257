"""Servers for the 15 cases, the facts that they collect, and the table at the end.

`RELIABILITY=full` runs every case at its whole length (60 s of overload, 60 s hung, 50 kills); without it the same
cases run with shorter times and smaller numbers. None is left out.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.reliability.harness import ROOT, Server, is_full
from tests.reliability.table import Table

FAULTY = Path(__file__).parent / "faulty_server.py"
TABLE = Table()
_CASE = re.compile(r"test_case_(\d\d)")


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether every case runs at its whole length."""
    return is_full()


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`seen(text)`: a fact for the case's line of the table."""
    case = int(_CASE.search(request.node.nodeid)[1])
    return lambda text: TABLE.note(case, text)


@contextmanager
def _starter(bundle: Path, top: Path) -> Iterator[Callable[..., Server]]:
    """`start(bundle=None, faulty=False, ready=True, **options)` -> a server; `start.servers` has them all."""
    with ExitStack() as stack:

        def start(bundle: Path = bundle, faulty: bool = False, ready: bool = True, **options: object) -> Server:
            place = top / f"server{len(start.servers)}"
            launcher = (str(FAULTY),) if faulty else ("-m", "app.cli")
            server = Server(place, bundle, launcher, FAULT_FILE=str(place / "fault"), **options)
            stack.callback(server.close)
            start.servers.append(server)
            return server.start().rest() if ready else server

        start.servers = []
        yield start


@pytest.fixture
def servers(tiny_bundle: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of the test's own, see `_starter`. Whoever still lives at its end must be unharmed."""
    with _starter(tiny_bundle, tmp_path) as start:
        yield start
        for server in start.servers:
            if server.alive:
                server.check_unharmed()


@pytest.fixture(scope="module")
def lasting_servers(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers for all tests of a file, which look after each of them whether they are unharmed."""
    with _starter(tiny_bundle, tmp_path_factory.mktemp("lasting")) as start:
        yield start
        for server in start.servers:
            assert server.stop() == 0


@pytest.fixture(scope="session")
def _shared(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with _starter(tiny_bundle, tmp_path_factory.mktemp("shared")) as start:
        server = start()
        yield server
        assert server.stop() == 0


@pytest.fixture
def server(_shared: Server) -> Iterator[Server]:
    """One server with default settings for all cases that need no other; it must be unharmed after each."""
    yield _shared
    _shared.check_unharmed()


@pytest.fixture(scope="session")
def default_bundle() -> Path:
    """The bundle that ships: a network of real size."""
    return ROOT / "model_store" / "default"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    found = _CASE.search(report.nodeid)
    if found and (report.when == "call" or report.outcome != "passed"):
        outcome = "error" if report.outcome == "failed" and report.when != "call" else report.outcome
        TABLE.outcomes[int(found[1])].append(outcome)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not TABLE.outcomes:
        return
    text = TABLE.markdown()
    file = ROOT / "runs" / ("reliability.md" if is_full() else "reliability-short.md")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    terminalreporter.section(f"reliability, {'full' if is_full() else 'short'}: runs/{file.name}")
    terminalreporter.write(text)
