import json
import re
import uuid
from pathlib import Path

from redis import Redis

PREFIX = "session:"  # As the layer has it,
IDLE = 900_000  # and its idle timeout, in milliseconds.
# Whoever sends the cookie must not choose any other key.
ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def text(value):
    """How a value is stored: a string as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, allow_nan=False)


class Sessions:
    def __init__(self, url):
        # What is not UTF-8 comes and goes as it is.
        self.redis = Redis.from_url(url, decode_responses=True, encoding_errors="surrogateescape")
        folder = Path(__file__).parent
        names = ("read.lua", "renewed.lua", "write.lua", "end.lua")
        scripts = [self.redis.register_script((folder / name).read_text()) for name in names]
        self._read, self._renewed, self._write, self._end = scripts

    def read(self, id):
        """The fields of a session, whose end this puts off; {} where it is gone, None where another took its place."""
        key = PREFIX + id
        answer = self._read(keys=[key], args=[IDLE]) if ID.fullmatch(id) else []
        if answer is None:
            return None
        fields = dict(zip(answer[::2], answer[1::2]))
        if old := fields.get("@replaces"):
            if not self._renewed(keys=[old], args=[key]):
                self.redis.delete(key)
                return {}
            self.redis.hdel(key, "@replaces")
        return {name: value for name, value in fields.items() if not name.startswith("@")}

    def create(self, fields):
        """A new session, with at least one field; its id."""
        id = str(uuid.uuid4())
        # One step: without an end it would never go.
        with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(PREFIX + id, mapping=stored(fields)).pexpire(PREFIX + id, IDLE).execute()
        return id

    def write(self, id, changed, removed=()):
        """Sets fields and removes others; whether the session was still there."""
        pairs = [word for pair in stored(changed).items() for word in pair]
        return bool(self._write(keys=[PREFIX + id], args=[len(removed), *allowed(removed), *pairs]))

    def end(self, id, new=None):
        """A logout, also where another session has just taken its place. Or `new` does: the id of one that is there."""
        key = PREFIX + id if ID.fullmatch(id) else None
        while key:
            key = self._end(keys=[key], args=[PREFIX + new] if new else [])


def allowed(names):
    if any(name.startswith("@") for name in names):
        raise ValueError("names that begin with @ are the layer's own")
    return names


def stored(fields):
    return {name: text(fields[name]) for name in allowed(fields)}
