"""What login, profile and logout ask of Upstash: the requests, and each command that is billed, as Redis sees it."""

import contextlib
import socket

import pytest

from conftest import TABLES, until

# A refresh waits so long for a write that makes it needless, and then goes out; in seconds, with room.
QUIET = 0.2


class Monitor:
    """The commands that Redis runs. redis-py's own gives up where nothing comes for a while."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=QUIET)
        self.socket.sendall(b"MONITOR\r\n")
        self.commands()

    def commands(self):
        """The names of all until nothing more comes, in brackets where a script called it."""
        text = b""
        with contextlib.suppress(TimeoutError):
            while more := self.socket.recv(65536):
                text += more
        lines = [line for line in text.decode(errors="replace").splitlines() if '] "' in line]
        names = [(line.split('"')[1].upper(), " lua] " in line) for line in lines]
        return [f"({name})" if by_script else name for name, by_script in names]


@pytest.fixture
def monitor(redis, redises):
    monitor = Monitor(redises.port)
    yield monitor
    monitor.socket.close()


def billed(redis):
    """How many commands Redis has run, but for those of this test."""
    calls = redis.info("commandstats").items()
    own = ("cmdstat_info", "cmdstat_monitor", "cmdstat_flushall", "cmdstat_dbsize")
    return sum(stat["calls"] for name, stat in calls if name not in own)


def test_what_a_request_costs_over_rest(apps, redis, redises, monitor):
    app = apps["login, REST"]
    # The scripts are known then.
    app.log_out(app.log_in())
    app.log_out(app.log_in())
    rows = [["request", "billed", "HTTP requests", "bytes", "commands; those in brackets are called by the script before"]]
    id = None
    for name, expected in (("login", 5), ("profile", 3), ("logout", 5)):
        # Nothing is under way any more.
        monitor.commands()
        redises.asked()
        before = billed(redis)
        monitor.commands()
        if name == "login":
            id = app.log_in()
        else:
            answer = app.profile(id) if name == "profile" else app.log_out(id)
            assert answer.status_code == 200
        commands = []
        # On a busy machine the refresh comes late.
        until(lambda: commands.extend(monitor.commands()) or len(commands) >= expected, f"{name} asks less than {expected}")
        bill = billed(redis) - before
        asked = redises.asked()
        sent = [command[0].upper() for request in asked for command in request["commands"]]
        # MONITOR, the statistics and the requests tell the same.
        assert bill == len(commands), (bill, commands)
        assert sorted(sent) == sorted(command for command in commands if command[0] != "("), (sent, commands)
        assert bill == expected, f"{name}: {commands}"
        size = sum(request["bytes"] for request in asked)
        rows.append([name, str(bill), str(len(asked)), str(size), " ".join(commands)])
    assert redis.dbsize() == 0
    TABLES["what a request costs over REST"] = rows
