"""The code of docs/interop.md is what the other tests run."""

import re
import subprocess
from pathlib import Path

import pytest
import upstash_redis
from redis.exceptions import ResponseError

import stage

PAGE = (stage.HERE.parent.parent / "docs" / "interop.md").read_text()


def blocks(language):
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"no {language} on the page"
    return found


@pytest.mark.parametrize("language, suffix", [("lua", "lua"), ("python", "py"), ("js", "js")])
def test_the_page_shows_the_code_that_is_tested(language, suffix):
    """Each block is a piece of a file, but for how far it is indented, and each file that is to be copied is there whole."""

    def lines(text):
        return "\n" + "".join(line.strip() + "\n" for line in text.splitlines())

    folders = ["sessions", "apps", "."]
    files = [path.read_text() for folder in folders for path in (stage.HERE / folder).glob(f"*.{suffix}")]
    for block in blocks(language):
        assert any(lines(block) in lines(file) for file in files), f"in none of the files:\n{block}"
    for path in (stage.HERE / "sessions").glob(f"*.{suffix}"):
        assert path.read_text() in blocks(language), f"{path.name} is not on the page"


def test_every_program_on_the_page_is_there():
    for link in re.findall(r"\]\((\.\./[^)#]+)\)", PAGE):
        assert (stage.HERE.parent.parent / "docs" / link).exists(), link
    headings = {line.lstrip("# ").lower().replace(" ", "-").replace("'", "") for line in PAGE.splitlines() if line[:1] == "#"}
    for anchor in re.findall(r"\]\(#([^)]+)\)", PAGE):
        assert anchor in headings, anchor


def test_redis_cli(apps, redis, redises):
    [commands] = blocks("sh")
    id = apps["login"].log_in()
    redis.hset(f"session:{id}", "note", "x")
    prelude = f"set -e; ID={id}; redis-cli() {{ command redis-cli -p {redises.port} \"$@\"; echo; }}\n"
    *before, end = commands.splitlines()
    shell = ["bash", "-c", prelude + "\n".join(before)]
    said = subprocess.run(shell, cwd=stage.HERE / "sessions", check=True, capture_output=True, text=True).stdout
    assert said.split() == ["user", "abdullah", "status", "active", "note", "x", said.split()[6], "1"]
    assert 895 < int(said.split()[6]) <= 900
    assert apps["login"].profile(id).json()["session_data"] == {"user": "abdullah", "status": "busy"}
    subprocess.run(["bash", "-c", prelude + end], cwd=stage.HERE / "sessions", check=True, capture_output=True)
    assert apps["login"].profile(id).status_code == 404
    # Of a session that is gone nothing comes back.
    subprocess.run(shell, cwd=stage.HERE / "sessions", check=True, capture_output=True)
    assert redis.dbsize() == 0


def test_the_scripts_over_rest(apps, redis, redises, monkeypatch):
    monkeypatch.chdir(stage.HERE / "sessions")
    redis_by_tcp, redis = redis, upstash_redis.Redis(redises.rest_url, redises.token)
    id = apps["login"].log_in("3", remember=True)
    redis_by_tcp.expire(f"session:{id}", 100)
    script = "#!lua flags=allow-key-locking\n" + Path("read.lua").read_text()
    found = redis.eval(script, keys=[f"session:{id}"], args=[900_000]) or []
    fields = {name: text for name, text in zip(found[::2], found[1::2]) if not name.startswith("@")}
    assert fields == {"user": "3", "status": "active"} and "@idle" in found
    assert redis.ttl(f"session:{id}") > 29 * 24 * 60 * 60
    first_line = "#!lua flags=allow-key-locking\n"
    write, end, renewed = (first_line + Path(f"{name}.lua").read_text() for name in ("write", "end", "renewed"))
    assert redis.eval(renewed, keys=["session:none"], args=[f"session:{id}"]) == 0
    assert redis.eval(write, keys=[f"session:{id}"], args=["1", "status", "user", "eve"]) == 1
    assert apps["login"].profile(id).json()["session_data"] == {"user": "eve"}
    assert redis.eval(end, keys=[f"session:{id}"]) is None
    assert redis.eval(write, keys=[f"session:{id}"], args=["0", "user", "eve"]) == 0


def test_nothing_is_written_while_the_layer_gives_a_new_id(redis):
    """The mark of a renewal: until its time, what is written to the old session would be lost."""
    write = (stage.HERE / "sessions" / "write.lua").read_text()
    seconds, _ = redis.time()
    for ends, written in ((seconds + 10, 0), (seconds - 10, 1)):
        redis.hset("session:x", mapping={"user": "eve", "@replaced": f"{'0' * 40} 17 {ends * 1000}"})
        redis.expire("session:x", 50)
        assert redis.eval(write, 1, "session:x", 0, "user", "ada") == written
        assert redis.hget("session:x", "user") == (b"ada" if written else b"eve")
    # Removing the last field and setting another in one call leaves no session without an end.
    redis.hdel("session:x", "@replaced")
    assert redis.eval(write, 1, "session:x", 1, "user", "status", "active") == 1
    assert redis.hgetall("session:x") == {b"status": b"active"} and redis.ttl("session:x") > 0


def test_without_its_line_with_pexpire_a_read_puts_nothing_off(redis):
    """What the page says of an absolute timeout."""
    lines = (stage.HERE / "sessions" / "read.lua").read_text().splitlines()
    others = [line for line in lines if "PEXPIRE" not in line]
    assert len(others) == len(lines) - 1
    for script, ends in ((lines, 900), (others, 50)):
        redis.hset("session:x", mapping={"user": "eve", "@created": "1"})
        redis.expire("session:x", 50)
        found = redis.eval("\n".join(script), 1, "session:x", 900_000)
        assert found == [b"user", b"eve", b"@created", b"1"]
        assert ends - 5 < redis.ttl("session:x") <= ends


def test_how_many_fields_one_write_takes(redis):
    """What the page warns of."""
    write = (stage.HERE / "sessions" / "write.lua").read_text()
    redis.hset("session:x", "user", "eve")
    redis.expire("session:x", 50)
    words = [word for at in range(3_900) for word in (at, "x")]
    assert redis.eval(write, 1, "session:x", 0, *words) == 1
    assert redis.hlen("session:x") == 3_901
    with pytest.raises(ResponseError, match="too many results to unpack"):
        redis.eval(write, 1, "session:x", 0, *words, *(f"more {word}" for word in words))
    assert redis.hlen("session:x") == 3_901
