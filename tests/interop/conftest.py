"""What is shared by the tests, and the tables at their end."""

import time

import pytest

import stage

TABLES = {}


@pytest.fixture(scope="session")
def redises():
    redises = stage.Redises()
    yield redises
    redises.end()


@pytest.fixture(scope="session")
def apps(redises):
    """All apps by name, on one Redis."""
    apps = {}
    try:
        for name, (start, rest) in stage.APPS.items():
            apps[name] = start(name, redises.over_rest if rest else redises.over_tcp)
        yield apps
    finally:
        for app in apps.values():
            app.end()


@pytest.fixture
def redis(redises):
    """A connection of the test's own, in bytes, to an empty Redis that has no key without an end afterwards."""
    redises.redis.flushall()
    yield redises.redis
    for key in redises.redis.scan_iter():
        assert redises.redis.pttl(key) > 0, f"{key} never ends"


def until(condition, what):
    """Waits for what comes behind an answer, such as a refresh."""
    deadline = time.monotonic() + stage.HANG
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def pytest_terminal_summary(terminalreporter):
    for title, rows in TABLES.items():
        widths = [max(map(len, column)) for column in zip(*rows)]
        terminalreporter.section(title)
        for row in rows:
            terminalreporter.write_line(" | ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
