"""Who reads whose session: our `login`, the tutorial's app, and the code of docs/interop.md, all on one Redis."""

import hashlib
import json
import subprocess
import sys

import flask
import pytest

import stage
from conftest import TABLES, until
from flask_sessions import RedisSessions
from sessions import Sessions

IDLE = 900
REMEMBERED = 30 * 24 * 60 * 60

WHO_READS = "a login by the row, a profile and a logout by the column: its fields, its time to live, and then on both"

# What a careless codec takes for something else.
ODD_NAMES = [
    "3",
    "-0.5e7",
    "true",
    "null",
    '{"user": "eve"}',
    '["a", 1]',
    '"quoted"',
    "it's \"both\" \\ and \\u0041",
    "日本語の名前",
    "a\0b",
    "𠮷😀",
    "a\nb\tc",
    "OK",
    "QUJD",
    "%00+%2B",
]


def fields(answer):
    """The id, and the fields of a profile."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["session_id"], body["session_data"]


def ttl_is(redis, id, seconds):
    """Waits for it: our refresh goes out behind the answer."""
    key = f"session:{id}"
    until(lambda: seconds - 5 < redis.pttl(key) / 1000 <= seconds, f"the time to live is not {seconds} seconds")


@pytest.fixture(scope="module")
def read():
    """What each read of whose session, for the table."""
    read = {}
    yield read
    names = list(stage.APPS)
    rows = [[writer, *(read.get((writer, reader), "FAILED") for reader in names)] for writer in names]
    TABLES[WHO_READS] = [["", *names], *rows]


@pytest.mark.parametrize("reader", stage.APPS)
@pytest.mark.parametrize("writer", stage.APPS)
def test_each_reads_whose_session(apps, redis, read, writer, reader):
    writer, reader = apps[writer], apps[reader]
    id = writer.log_in()
    ttl_is(redis, id, IDLE)
    assert redis.hgetall(f"session:{id}") == {b"user": b"abdullah", b"status": b"active"}

    redis.expire(f"session:{id}", 100)
    assert fields(reader.profile(id)) == (id, {"user": "abdullah", "status": "active"})
    ttl_is(redis, id, IDLE)

    logout = reader.log_out(id)
    assert logout.json() == {"message": "Logged out successfully"}
    assert logout.headers["set-cookie"].startswith(("session_id=;", 'session_id="";'))
    # At once, on both.
    for app in (writer, reader):
        gone = app.profile(id)
        assert (gone.status_code, gone.json()) == (404, {"detail": "Session not found or expired"})
    assert redis.dbsize() == 0

    read[writer.name, reader.name] = f"same, {IDLE}, gone"


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_odd_names_are_the_same_for_all(apps, redis, name):
    for writer in apps.values():
        id = writer.log_in(name)
        assert redis.hget(f"session:{id}", "user") == name.encode(), writer.name
        for reader in apps.values():
            _, data = fields(reader.profile(id))
            assert data == {"user": name, "status": "active"}, (writer.name, reader.name)


def test_the_tutorials_script_says_the_same_of_all(apps, redis):
    """Word for word, but for the id."""
    said = {}
    for name in stage.OURS + stage.TUTORIALS:
        script = [sys.executable, str(stage.HERE / "apps" / "tutorial_script.py"), apps[name].url]
        text = subprocess.run(script, check=True, capture_output=True, text=True, timeout=stage.HANG).stdout
        id = json.loads(text.splitlines()[0].removeprefix("Login: "))["session_id"]
        said[name] = text.replace(id, "ID")
    assert said[stage.TUTORIALS[0]].splitlines() == [
        'Login: {"message":"Logged in successfully","session_id":"ID"}',
        'Profile: {"session_id":"ID","session_data":{"user":"abdullah","status":"active"}}',
        'Logout: {"message":"Logged out successfully"}',
        'Profile after logout: {"detail":"Session not found or expired"}',
        'Profile without a cookie: {"detail":"No session cookie found"}',
    ]
    assert len(set(said.values())) == 1, said


def test_the_same_cookies_and_statuses(apps, redis):
    """Attributes may be in any order and case; the value is the id."""
    for name in stage.OURS + stage.TUTORIALS:
        app = apps[name]
        login = app.ask("POST", "/login/", json={"username": "abdullah"})
        id, *attributes = login.headers["set-cookie"].split("; ")
        assert id == f"session_id={login.json()['session_id']}"
        assert sorted(map(str.lower, attributes)) == ["httponly", "path=/", "samesite=lax"], name
        unknown = app.profile("00000000-0000-4000-8000-000000000000")
        assert (unknown.status_code, app.profile(None).status_code) == (404, 403)
        # The tutorial wants to clear this cookie, but answers with another response. We do clear it.
        assert ("set-cookie" in unknown.headers) == (name in stage.OURS), name


@pytest.mark.parametrize("name", stage.DOCUMENTED)
def test_the_attributes_of_documented_cookies(apps, redis, name):
    login = apps[name].ask("POST", "/login/", json={"username": "abdullah"})
    logout = apps[name].log_out(login.cookies["session_id"])
    for answer in (login, logout):
        _, *attributes = answer.headers["set-cookie"].lower().split("; ")
        assert {"httponly", "path=/", "samesite=lax"} <= set(attributes), attributes


@pytest.mark.parametrize("reader", stage.DOCUMENTED)
def test_who_does_as_the_docs_say_shortens_no_remembered_session(apps, redis, reader):
    id = apps["login"].log_in(remember=True)
    for expire in (REMEMBERED, 100):
        redis.expire(f"session:{id}", expire)
        profile = apps[reader].profile(id)
        assert fields(profile)[1] == {"user": "abdullah", "status": "active"}
        ttl_is(redis, id, REMEMBERED)
        # What docs/interop.md warns of: the browser's cookie ends when the layer has said.
        assert "set-cookie" not in profile.headers
    assert apps[reader].ask("POST", "/set/", id, json={"status": "busy"}).status_code == 200
    ttl_is(redis, id, REMEMBERED)
    # So does the layer's own mark of a renewal under way, where the session has no idle timeout of its own.
    id = apps["login"].log_in()
    redis.hset(f"session:{id}", "@idle", "0")
    fields(apps[reader].profile(id))
    ttl_is(redis, id, IDLE)


@pytest.mark.parametrize("reader", stage.TUTORIALS)
def test_the_tutorial_shortens_it_until_our_next_request(apps, redis, reader):
    """What docs/interop.md warns of."""
    id = apps["login"].log_in(remember=True)
    _, data = fields(apps[reader].profile(id))
    assert data == {"user": "abdullah", "status": "active", "@idle": str(REMEMBERED * 1000), "@cookie": "persistent"}
    ttl_is(redis, id, IDLE)
    apps["login"].profile(id)
    ttl_is(redis, id, REMEMBERED)


@pytest.mark.parametrize("name", stage.DOCUMENTED)
def test_fields_are_text_or_json(apps, redis, redises, name):
    other, ours = apps[name], apps["login, REST"]
    id = ours.log_in()
    key = f"session:{id}"
    # Not UTF-8, of another program: it stays as it is.
    redis.hset(key, "raw", b"\xff\0")
    values = {"a": "3", "b": 3, "c": True, "d": {"e": ["f", 1]}, "g": "", "status": None, "日本": "語"}
    assert other.ask("POST", "/set/", id, json=values).status_code == 200
    stored = redis.hgetall(key)
    assert json.loads(stored.pop(b"d")) == {"e": ["f", 1]}
    assert stored == {
        b"user": b"abdullah",
        b"raw": b"\xff\0",
        b"a": b"3",
        b"b": b"3",
        b"c": b"true",
        b"g": b"",
        "日本".encode(): "語".encode(),
    }
    # The names of the layer's own fields are refused, also to remove them.
    assert other.ask("POST", "/set/", id, json={"@idle": "1"}).status_code == 500
    assert not redis.hexists(key, "@idle")
    redis.hset(key, "@idle", "50000")
    sessions = Sessions(redises.redis_url)
    if name == "express":
        assert other.ask("POST", "/set/", id, json={"@idle": None, "a": "4"}).status_code == 500
    else:
        with pytest.raises(ValueError, match="layer's own"):
            sessions.write(id, {"a": "4"}, ["@idle"])
    assert redis.hmget(key, "@idle", "a") == [b"50000", b"3"]
    redis.hdel(key, "@idle")
    # A page of ours, which counts visits as a number.
    redis.hset(key, "visits", "7")
    assert ours.ask("GET", "/", id).status_code == 200
    assert redis.hget(key, "visits") == b"8"


def test_flask_counts_what_we_count(apps, redis):
    id = apps["login"].log_in()
    for visits in (1, 2):
        assert apps["Flask"].ask("POST", "/visit/", id).json() == {"visits": visits}
    apps["login"].ask("GET", "/", id)
    assert apps["Flask"].ask("POST", "/visit/", id).json() == {"visits": 4}
    # The last field removed is the end, on their side as on ours.
    gone = apps["Flask"].ask("POST", "/set/", id, json={"user": None, "status": None, "visits": None})
    assert gone.headers["set-cookie"].startswith("session_id=;")
    assert redis.dbsize() == 0


def test_express_goes_on_with_what_it_has_created(apps, redis):
    old = apps["login"].log_in()
    answer = apps["express"].ask("POST", "/again/", old).json()
    id, data = answer["session_id"], {"user": "second", "visits": "1"}
    assert answer == {"written": True, "session_id": id, "session_data": data, "same": True}
    assert fields(apps["login"].profile(id))[1] == data
    # Neither of those before is a session.
    assert [redis.type(key) for key in redis.keys() if key.decode() != f"session:{id}"] == [b"string", b"string"]
    # The last field removed is the end, on their side as on ours; but not where another one is set.
    last = apps["express"].ask("POST", "/set/", id, json={"user": None, "visits": None, "note": "x"})
    assert last.json() == {"written": True} and "set-cookie" not in last.headers
    gone = apps["express"].ask("POST", "/set/", id, json={"note": None})
    assert gone.json() == {"written": True} and gone.headers["set-cookie"].startswith("session_id=;")
    assert not redis.exists(f"session:{id}")
    # So it is for a session with fields of the layer's own.
    id = apps["login"].log_in(remember=True)
    apps["express"].ask("POST", "/set/", id, json={"user": None, "status": None})
    assert not redis.exists(f"session:{id}")


def test_express_stores_nothing_that_is_undefined(apps, redis):
    id = apps["login"].log_in()
    assert apps["express"].ask("POST", "/none/", id).status_code == 500
    assert redis.hget(f"session:{id}", "user") == b"abdullah"


def test_flask_writes_only_what_changed(apps, redis, redises):
    """What another program changes while a handler runs is kept, and what it ends stays ended."""
    app = flask.Flask(__name__)
    app.config["SESSION_COOKIE_NAME"] = "session_id"
    app.session_interface = RedisSessions(redises.redis_url)

    @app.post("/<meanwhile>")
    def view(meanwhile):
        flask.session["a"] = "1"
        if meanwhile == "change":
            redis.hset(key, "user", "eve")
        else:
            apps["login"].log_out(id)
        return ""

    id = apps["login"].log_in()
    key = f"session:{id}"
    client = app.test_client()
    client.set_cookie("session_id", id)
    client.post("/change")
    assert redis.hmget(key, "user", "a") == [b"eve", b"1"]
    redis.hdel(key, "a")
    assert "set-cookie" not in client.post("/log_out").headers
    assert redis.dbsize() == 0


def test_what_flask_sets_comes_back_as_text(redis, redises):
    """What docs/interop.md warns of."""
    app = flask.Flask(__name__)
    app.config["SESSION_COOKIE_NAME"] = "session_id"
    app.session_interface = RedisSessions(redises.redis_url)

    @app.post("/")
    def view():
        flask.session.update(fresh=False, cart=["a"])
        flask.session.permanent = True
        return ""

    @app.get("/")
    def again():
        return dict(flask.session)

    client = app.test_client()
    assert "Expires" not in client.post("/").headers["set-cookie"]
    assert client.get("/").json == {"fresh": "false", "cart": '["a"]', "_permanent": "true"}
    [key] = redis.keys()
    assert 890 < redis.ttl(key) <= 900


@pytest.mark.parametrize("name", stage.DOCUMENTED)
def test_a_login_gets_a_new_id(apps, redis, name):
    app = apps[name]
    first = app.log_in()
    second = app.log_in("eve", session_id=first)
    assert first != second
    assert app.profile(first).status_code == 404
    assert fields(apps["login"].profile(second))[1] == {"user": "eve", "status": "active"}
    # What comes late with the old id clears no new cookie, and a logout is one.
    for ours in stage.OURS:
        late = apps[ours].profile(first)
        assert late.status_code == 404 and "set-cookie" not in late.headers
    assert redis.get(f"session:{first}") == f"ended session:{second}".encode()
    assert 55 < redis.ttl(f"session:{first}") <= 60
    # Another login leaves that as it is, so that a double click logs nobody out.
    third = app.log_in("bob", session_id=first)
    assert redis.get(f"session:{first}") == f"ended session:{second}".encode()
    assert [fields(app.profile(id))[1]["user"] for id in (second, third)] == ["eve", "bob"]
    assert apps["login"].log_out(first).status_code == 200
    assert app.profile(second).status_code == 404
    # So it is in the place of an id that never was a session.
    unknown = "00000000-0000-4000-8000-000000000000"
    assert redis.get(f"session:{unknown}") is None
    fourth = app.log_in(session_id=unknown)
    assert redis.get(f"session:{unknown}") == f"ended session:{fourth}".encode()


@pytest.mark.parametrize("name", stage.DOCUMENTED)
def test_the_old_id_after_a_login_of_ours(apps, redis, name):
    """Its key is a string for a minute: no session, and a logout that comes late with it is still a logout."""
    old = apps["login"].log_in()
    new = apps["login"].log_in("eve", session_id=old)
    until(lambda: redis.type(f"session:{old}") == b"string", "no replacement record")
    assert apps[name].profile(old).status_code == 404
    assert fields(apps[name].profile(new))[1]["user"] == "eve"
    # What docs/interop.md warns of.
    assert apps[stage.TUTORIALS[0]].profile(old).status_code == 500
    other = apps["login"].log_in()
    replaced, other = other, apps["login"].log_in("ada", session_id=other)
    until(lambda: redis.type(f"session:{replaced}") == b"string", "no replacement record")
    assert apps[stage.TUTORIALS[0]].log_out(replaced).status_code == 200
    assert fields(apps["login"].profile(other))[1]["user"] == "ada"
    assert apps[name].log_out(old).status_code == 200
    assert apps["login"].profile(new).status_code == 404


@pytest.mark.parametrize("name", stage.DOCUMENTED)
def test_what_a_late_request_writes_takes_no_new_cookies_place(apps, redis, name):
    old = apps["login"].log_in()
    new = apps["login"].log_in("eve", session_id=old)
    until(lambda: redis.type(f"session:{old}") == b"string", "no replacement record")
    late = apps[name].ask("POST", "/set/", old, json={"status": "busy"})
    assert late.status_code == 200 and "set-cookie" not in late.headers
    assert sorted(redis.keys()) == sorted(f"session:{id}".encode() for id in (old, new))
    # A login is meant.
    assert fields(apps["login"].profile(apps[name].log_in("bob", session_id=old)))[1]["user"] == "bob"


@pytest.mark.parametrize("name", stage.DOCUMENTED)
def test_a_renewal_that_is_not_done_is_ended_by_who_meets_it(apps, redis, name):
    """Unless a logout has overtaken it: then it is no session."""
    old, new = (f"session:00000000-0000-4000-8000-{at:012}" for at in (1, 2))
    id = new.removeprefix("session:")

    def mark(key):
        handle = hashlib.sha1(key.encode()).hexdigest()
        redis.hset(old, mapping={"user": "ann", "@replaced": f"{handle} 17 4102444800000"})

    for write, is_session in [
        (lambda: None, False),
        (lambda: mark(old), False),
        (lambda: redis.set(old, old), False),
        (lambda: redis.set(old, f"ended {new}"), False),
        (lambda: mark(new), True),
        (lambda: redis.set(old, new), True),
    ]:
        redis.flushall()
        write()
        redis.expire(old, 50)
        redis.hset(new, mapping={"user": "ann", "@replaces": old})
        redis.expire(new, 50)
        answer = apps[name].profile(id)
        assert redis.exists(new) == is_session
        if is_session:
            assert fields(answer) == (id, {"user": "ann"})
            # As the layer would have ended it: the old id is no session any more, and says whose place was taken.
            assert redis.get(old) == new.encode() and 0 < redis.ttl(old) <= 50
            assert redis.hgetall(new) == {b"user": b"ann"}
            assert fields(apps["login"].profile(id)) == (id, {"user": "ann"})
            assert apps["login"].profile(old.removeprefix("session:")).status_code == 404
        else:
            assert answer.status_code == 404


@pytest.mark.parametrize("name", stage.DOCUMENTED)
def test_ids_of_another_form_ask_redis_nothing(apps, redis, name):
    redis.hset("session:@user:17", mapping={"user": "eve"})
    redis.expire("session:@user:17", 50)
    for id in ("@user:17", "../x", "00000000-0000-4000-8000-00000000000G", "00000000-0000-1000-8000-000000000000"):
        assert apps[name].profile(id).status_code == 404
        apps[name].log_out(id)
    assert 0 < redis.ttl("session:@user:17") <= 50
