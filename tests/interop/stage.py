"""What the tests start: the Redis with the REST API in front of it, and the apps. Each ends with the tests."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import requests
from redis import Redis

HERE = Path(__file__).parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")) / "debug"

# How long anything may take before it counts as hung, in seconds.
HANG = 20


class Process:
    """A process without settings of the developer's, ended by its id."""

    def __init__(self, command, settings=None, **more):
        env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "REDIS_SERVER") if name in os.environ}
        self.process = subprocess.Popen(command, env=env | (settings or {}), text=True, **more)

    def end(self):
        self.process.kill()
        self.process.wait(HANG)


class Redises(Process):
    """A real Redis, and the tests' Upstash server in front of it."""

    def __init__(self):
        pipe = subprocess.PIPE
        super().__init__([BUILT / "upstash-server"], stdin=pipe, stdout=pipe)
        place = json.loads(self.process.stdout.readline())
        self.rest_url, self.token, self.read_only_token = place["url"], place["token"], place["read_only_token"]
        self.port = place["redis_port"]
        self.redis_url = f"redis://127.0.0.1:{self.port}"
        self.over_rest = {"UPSTASH_REDIS_REST_URL": self.rest_url, "UPSTASH_REDIS_REST_TOKEN": self.token}
        self.over_tcp = {"REDIS_URL": self.redis_url}
        self.redis = Redis("127.0.0.1", self.port, socket_timeout=HANG)

    def asked(self):
        """What was asked over REST since the last call."""
        self.process.stdin.write("asked\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        # The end of its input ends it, and it ends its Redis.
        self.process.stdin.close()
        self.process.wait(HANG)


class App(Process):
    """An app with the tutorial's API."""

    def __init__(self, name, url, *args, **more):
        super().__init__(*args, **more)
        self.name, self.url = name, url

    def ask(self, method, path, session_id=None, **more):
        cookies = {"session_id": session_id} if session_id else {}
        return requests.request(method, self.url + path, cookies=cookies, timeout=HANG, **more)

    def log_in(self, name="abdullah", session_id=None, **more):
        """The id of the new session."""
        answer = self.ask("POST", "/login/", session_id, json={"username": name} | more)
        assert answer.status_code == 200, answer.text
        return answer.cookies["session_id"]

    def profile(self, session_id):
        return self.ask("GET", "/profile/", session_id)

    def log_out(self, session_id):
        return self.ask("POST", "/logout/", session_id)


class Login(App):
    """The example `login` of this crate."""

    def __init__(self, name, settings):
        command, settings = [BUILT / "examples" / "login"], settings | {"BIND": "127.0.0.1:0", "RUST_LOG": "warn"}
        super().__init__(name, "", command, settings, stdout=subprocess.PIPE, cwd=HERE)
        greeting = self.process.stdout.readline()
        self.url = "http://" + greeting.split("http://")[1].split("/")[0]


class Program(App):
    """An app of another language. It gets a socket that listens already: its first request waits until it is up."""

    def __init__(self, name, command, settings):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            fd = listener.fileno()
            command = [word.format(fd=fd) for word in command]
            path = {"PYTHONPATH": f"{HERE / 'sessions'}:{HERE / 'apps'}", "FD": str(fd)}
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            super().__init__(name, url, command, settings | path, pass_fds=[fd])


def fastapi(name, settings):
    command = [sys.executable, "-m", "uvicorn", "tutorial:app", "--fd", "{fd}", "--log-level", "warning"]
    return Program(name, command, settings)


def flask(name, settings):
    return Program(name, [sys.executable, str(HERE / "apps" / "flask_app.py")], settings)


def express(name, settings):
    return Program(name, ["node", str(HERE / "apps" / "express_app.js")], settings)


# Name, how it is started, and whether it reaches Redis over REST.
APPS = {
    "login": (Login, False),
    "login, REST": (Login, True),
    "FastAPI, upstash-redis": (fastapi, True),
    "FastAPI, redis-py": (fastapi, False),
    "Flask": (flask, False),
    "express": (express, False),
}
OURS = ["login", "login, REST"]
TUTORIALS = ["FastAPI, upstash-redis", "FastAPI, redis-py"]
# The code of docs/interop.md.
DOCUMENTED = ["Flask", "express"]
