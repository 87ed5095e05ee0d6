"""The tutorial's API in Flask, on the SessionInterface of docs/interop.md. And what only tests ask: `/visit/`."""

import os

from flask import Flask, request, session
from werkzeug.serving import make_server

from flask_sessions import RedisSessions

app = Flask(__name__)
app.config["SESSION_COOKIE_NAME"] = "session_id"
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
app.session_interface = RedisSessions(os.environ["REDIS_URL"])
app.json.sort_keys = False


@app.post("/login/")
def login():
    session.destroy()
    session["user"] = request.json["username"]
    session["status"] = "active"
    return {"message": "Logged in successfully"}


@app.get("/profile/")
def profile():
    if not session.presented:
        return {"detail": "No session cookie found"}, 403
    if not session:
        return {"detail": "Session not found or expired"}, 404
    return {"session_id": session.presented, "session_data": dict(session)}


@app.post("/visit/")
def visit():
    session["visits"] = int(session.get("visits", 0)) + 1
    return {"visits": session["visits"]}


@app.post("/set/")
def set():
    """Sets the fields of the body; what is null there is removed."""
    for name, value in request.json.items():
        if value is None:
            session.pop(name, None)
        else:
            session[name] = value
    return {}


@app.post("/logout/")
def logout():
    session.destroy()
    return {"message": "Logged out successfully"}


if __name__ == "__main__":
    # The socket that whoever started this has opened.
    make_server("127.0.0.1", 0, app, threaded=True, fd=int(os.environ["FD"])).serve_forever()
