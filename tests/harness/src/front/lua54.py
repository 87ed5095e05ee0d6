"""A Redis that runs its scripts in Lua 5.4, as Dragonfly does: `lua54.py PORT BEHIND`, the ports where it listens and of the
Redis behind it. Scripts run one after the other in lua54.lua, all else goes to that Redis."""

import hashlib
import pathlib
import socket
import socketserver
import subprocess
import sys
import threading

lua = subprocess.Popen(
    ["lua5.4", pathlib.Path(__file__).with_suffix(".lua")],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
)
one_at_a_time = threading.Lock()
scripts = {}


class Line(bytes):
    """A status or an error, with its first byte."""


def read(stream):
    line = stream.readline()[:-2]
    kind, rest = line[:1], line[1:]
    if kind in (b"+", b"-"):
        return Line(line)
    if kind == b":":
        return int(rest)
    if kind == b"*":
        return [read(stream) for _ in range(int(rest))]
    if kind == b"$" and int(rest) >= 0:
        return stream.read(int(rest) + 2)[:-2]
    return None


def encoded(value):
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(encoded, value))
    if isinstance(value, Line):
        return value + b"\r\n"
    return b"$%d\r\n%s\r\n" % (len(value), value)


def tell(value):
    if isinstance(value, list):
        lua.stdin.write(b"list\n%d\n" % len(value))
        for item in value:
            tell(item)
    elif value is None:
        lua.stdin.write(b"nothing\n")
    elif isinstance(value, Line):
        lua.stdin.write(b"status\n" if value[:1] == b"+" else b"error\n")
        write(value[1:])
    else:
        lua.stdin.write(b"integer\n" if isinstance(value, int) else b"text\n")
        write(b"%d" % value if isinstance(value, int) else value)


def write(text):
    lua.stdin.write(b"%d\n%s\n" % (len(text), text))


def text():
    found = lua.stdout.read(int(lua.stdout.readline()))
    lua.stdout.read(1)
    return found


def told():
    kind = lua.stdout.readline()
    if kind == b"list\n":
        return [told() for _ in range(int(lua.stdout.readline()))]
    if kind == b"nothing\n":
        return None
    if kind == b"integer\n":
        return int(text())
    if kind == b"text\n":
        return text()
    return Line((b"+" if kind == b"status\n" else b"-") + text())


def run(script, keys, args, ask):
    with one_at_a_time:
        write(script)
        for texts in (keys, args):
            lua.stdin.write(b"%d\n" % len(texts))
            for each in texts:
                write(each)
        lua.stdin.flush()
        while lua.stdout.readline() == b"call\n":
            tell(ask([text() for _ in range(int(lua.stdout.readline()))]))
            lua.stdin.flush()
        return told()


class Client(socketserver.StreamRequestHandler):
    def setup(self):
        super().setup()
        self.redis = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
        self.answers = self.redis.makefile("rb")

    def ask(self, command):
        self.redis.sendall(encoded(command))
        return read(self.answers)

    def answer(self, command):
        name = command[0].upper()
        if name == b"HELLO":
            return Line(b"-ERR unknown command 'HELLO'")
        if name == b"SCRIPT":
            sha1 = hashlib.sha1(command[2]).hexdigest().encode()
            scripts[sha1] = command[2]
            return sha1
        if name not in (b"EVAL", b"EVALSHA"):
            return self.ask(command)
        script = command[1]
        if name == b"EVALSHA":
            script = scripts.get(command[1].lower())
        if script is None:
            return Line(b"-NOSCRIPT No matching script. Please use EVAL.")
        first_arg = 3 + int(command[2])
        return run(script, command[3:first_arg], command[first_arg:], self.ask)

    def handle(self):
        while command := read(self.rfile):
            self.wfile.write(encoded(self.answer(command)))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", int(sys.argv[1])), Client).serve_forever()
