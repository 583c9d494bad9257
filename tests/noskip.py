"""`pytest -p tests.noskip`: a test that was skipped fails the run. For `make reliability` and `make test-browser`."""

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.exitstatus == pytest.ExitCode.OK and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("\nnothing may be skipped here, and something was", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
