from flask.sessions import SessionInterface, SessionMixin

from sessions import Sessions, text


class Session(dict, SessionMixin):
    def __init__(self, presented, fields):
        super().__init__(fields or {})
        self.presented, self.loaded, self.ended = presented, fields, False

    def destroy(self):
        """A logout. And the first step of a login: what is set after this goes into a session with a new id."""
        self.clear()
        self.loaded, self.ended = {}, True


class RedisSessions(SessionInterface):
    def __init__(self, url):
        self.sessions = Sessions(url)

    def open_session(self, app, request):
        presented = request.cookies.get(self.get_cookie_name(app), "")
        return Session(presented, self.sessions.read(presented))

    def save_session(self, app, session, response):
        response.vary.add("Cookie")
        if session.loaded is None:
            return  # It came late, with the old id: the browser has a new cookie, which this must not replace.
        if session.loaded and not session:
            session.destroy()  # Its last field is gone.
        if session.loaded:
            # Only what changed, so that nobody else's change is lost.
            changed = {name: value for name, value in session.items() if text(value) != session.loaded.get(name)}
            removed = session.loaded.keys() - session.keys()
            if changed or removed:
                self.sessions.write(session.presented, changed, list(removed))
        elif session or (session.ended and session.presented):
            new = self.sessions.create(session) if session else None
            self.sessions.end(session.presented, new)
            how = {"domain": self.get_cookie_domain(app), "path": self.get_cookie_path(app), "httponly": True}
            how |= {"secure": self.get_cookie_secure(app), "samesite": self.get_cookie_samesite(app)}
            # Without a session, it ends at once.
            response.set_cookie(self.get_cookie_name(app), new or "", max_age=None if new else 0, **how)
            response.cache_control.no_store = True
