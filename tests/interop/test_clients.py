"""The official clients, with their defaults, do to the tests' Upstash server what they do to Upstash."""

import base64
import subprocess

import httpx
import pytest
import upstash_redis
import upstash_redis.asyncio
from upstash_redis.errors import UpstashError

import stage

TEXTS = ["3", "true", "null", '{"a": 1}', '"q"', "日本語", "a\0b", "𠮷😀", "OK", "QUJD", "", "%00/?", "\ufffd"]


@pytest.fixture
def rest(redises):
    redises.redis.flushall()
    with upstash_redis.Redis(redises.rest_url, redises.token) as rest:
        yield rest


def test_hashes(rest):
    assert rest.hset("h", "user", "abdullah") == 1
    assert rest.hset("h", values={"status": "active", "visits": 3}) == 2
    assert rest.hgetall("h") == {"user": "abdullah", "status": "active", "visits": "3"}
    assert rest.hget("h", "user") == "abdullah"
    assert rest.hget("h", "none") is None
    assert rest.hmget("h", "user", "none") == ["abdullah", None]
    assert rest.hincrby("h", "visits", 4) == 7
    assert rest.hexists("h", "visits") and rest.hdel("h", "visits") == 1
    assert rest.hgetall("none") == {}
    assert rest.delete("h", "none") == 1


def test_times_to_live(rest):
    rest.set("t", "x")
    assert rest.ttl("t") == -1
    assert rest.expire("t", 900) is True
    assert rest.ttl("t") in (899, 900)
    assert rest.expire("none", 900) is False
    assert rest.ttl("none") == -2
    assert rest.set("t", "x", ex=100) is True
    assert 99_000 < rest.pttl("t") <= 100_000


def test_pipelines_and_transactions(rest):
    for many in (rest.pipeline, rest.multi):
        rest.delete("p")
        queue = many().hset("p", values={"a": "1"}).expire("p", 900).hgetall("p").get("none")
        assert queue.exec() == [1, True, {"a": "1"}, None]
    # A pipeline does the others, and the client tells of the first that failed.
    with pytest.raises(UpstashError, match="WRONGTYPE"):
        rest.pipeline().get("p").hset("p", "b", "2").exec()
    assert rest.hget("p", "b") == "2"


def test_a_transaction_that_is_discarded_does_nothing(rest, redises):
    queue = rest.multi()
    queue.set("m", "x")
    queue.execute(["EXPIRE", "m"])
    with pytest.raises(Exception, match="EXECABORT|'str' object|string indices"):
        queue.exec()
    assert rest.get("m") is None


def test_scripts(rest):
    script = "return {KEYS[1], ARGV[1], redis.call('PTTL', KEYS[1]), false}"
    assert rest.eval(script, keys=["k"], args=["a"]) == ["k", "a", -2, None]
    sha1 = rest.script_load(script)
    assert rest.evalsha(sha1, keys=["k"], args=["b"]) == ["k", "b", -2, None]
    assert rest.eval("#!lua flags=allow-key-locking\nreturn 1") == 1
    with pytest.raises(UpstashError, match="NOSCRIPT"):
        rest.evalsha("0" * 40)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_every_text_survives_as_a_key_a_name_and_a_value(rest, redises, text):
    # As the tutorial calls it: with a name and an empty text as arguments of their own, the client sends neither.
    assert rest.hset(f"b{text}", values={f"f{text}": text}) == 1
    assert rest.hgetall(f"b{text}") == {f"f{text}": text}
    assert redises.redis.hgetall(f"b{text}".encode()) == {f"f{text}".encode(): text.encode()}


def test_bytes_that_are_no_text(redises, rest):
    """As base64, which both clients ask for by default."""
    redises.redis.hset("raw", b"\xfename", b"\xff\0\x80")
    headers = {"Authorization": f"Bearer {redises.token}", "Upstash-Encoding": "base64"}
    answer = httpx.post(redises.rest_url, headers=headers, json=["HGETALL", "raw"])
    assert list(map(base64.b64decode, answer.json()["result"])) == [b"\xfename", b"\xff\0\x80"]
    # A value of any bytes can be sent as the body.
    assert httpx.post(f"{redises.rest_url}/set/bytes", headers=headers, content=b"\xff\0").json() == {"result": "OK"}
    assert redises.redis.get("bytes") == b"\xff\0"


def test_what_was_written_is_read(rest, redises):
    """The client sends the last sync token of the server's."""
    rest.set("a", "x")
    redises.asked()
    assert rest.get("a") == "x" and rest.get("a") == "x"
    first, second = (request["sync_token"] for request in redises.asked())
    assert first and second and first != second


def test_refusals(rest, redises):
    rest.hset("h", "a", "x")
    with pytest.raises(UpstashError, match="WRONGTYPE"):
        rest.get("h")
    with pytest.raises(UpstashError, match="ERR"):
        rest.execute(["HSET", "h"])
    for name in ("WATCH", "CLIENT", "SELECT", "BLPOP"):
        with pytest.raises(UpstashError, match="not available"):
            rest.execute([name, "a"])
    with pytest.raises(UpstashError, match="WRONGPASS"):
        upstash_redis.Redis(redises.rest_url, "wrong").get("h")
    reader = upstash_redis.Redis(redises.rest_url, redises.read_only_token)
    assert reader.hgetall("h") == {"a": "x"}
    with pytest.raises(UpstashError, match="NOPERM"):
        reader.hset("h", "a", "y")


def test_the_async_client(redises, rest):
    import asyncio

    async def ask():
        async with upstash_redis.asyncio.Redis(redises.rest_url, redises.token) as redis:
            await redis.hset("h", values={"user": "𠮷"})
            return await asyncio.gather(redis.hgetall("h"), redis.expire("h", 9), redis.multi().ttl("h").exec())

    assert asyncio.run(ask()) == [{"user": "𠮷"}, True, [9]]


def test_the_npm_client(redises, rest):
    """Node's own test runner, whose report is shown where a test fails."""
    command = ["node", "--test", "--test-reporter=tap", "clients.test.js"]
    node = stage.Process(command, redises.over_rest, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=stage.HERE)
    report, _ = node.process.communicate(timeout=3 * stage.HANG)
    assert node.process.returncode == 0, report
    assert "# pass 8" in report and "# fail 0" in report, report
