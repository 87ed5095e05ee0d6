import { Sessions, stored } from "./sessions.js";

/** `req.session`: `id`, `fields` (texts), and `create`, `write` and `end`, which are to be awaited. */
export function sessions(redis, cookie = "session_id", attributes = { httpOnly: true, sameSite: "lax" }) {
  const store = new Sessions(redis);
  return async (req, res, next) => {
    const pairs = (req.headers.cookie ?? "").split(";").map((pair) => pair.trim().split("="));
    const presented = pairs.find(([name]) => name === cookie)?.[1] ?? "";
    const found = await store.read(presented);
    let current = presented;
    const session = { presented, id: found && presented, fields: found ?? {} };
    // A login. Its session takes the place of the one before.
    session.create = async (fields) => {
      const id = await store.create(fields);
      await store.end(current, id);
      res.cookie(cookie, id, attributes);
      Object.assign(session, { id, fields: stored(fields) });
      return (current = id);
    };
    // Whether the session was still there. With its last field it ends.
    session.write = async (changed, removed = []) => {
      if (!session.id || !(await store.write(session.id, changed, removed))) return false;
      Object.assign(session.fields, stored(changed));
      for (const name of removed) delete session.fields[name];
      if (!Object.keys(session.fields).length) await session.end();
      return true;
    };
    // A logout, also where another session has just taken this one's place.
    session.end = async () => {
      await store.end(current);
      res.clearCookie(cookie, attributes);
      Object.assign(session, { id: undefined, fields: {} });
    };
    req.session = session;
    res.vary("Cookie");
    next();
  };
}
