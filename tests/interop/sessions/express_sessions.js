import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

const [READ, RENEWED, WRITE, END] = ["read.lua", "renewed.lua", "write.lua", "end.lua"].map((name) =>
  readFileSync(new URL(name, import.meta.url), "utf8"),
);
// Whoever sends the cookie must not choose any other key.
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const IDLE = 900_000; // The layer's idle timeout, in milliseconds.
const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** `req.session`: `id`, `fields` (texts), and `create`, `write` and `end`, which are to be awaited. */
export function sessions(redis, cookie = "session_id", attributes = { httpOnly: true, sameSite: "lax" }) {
  const run = (script, key, ...words) => redis.eval(script, { keys: [key], arguments: words.map(String) });
  const words = (fields) =>
    Object.entries(fields).flatMap(([name, value]) => {
      if (name.startsWith("@")) throw new Error("names that begin with @ are the layer's own");
      const stored = text(value);
      if (stored === undefined) throw new Error(`${name} has no value`);
      return [name, stored];
    });
  return async (req, res, next) => {
    const pairs = (req.headers.cookie ?? "").split(";").map((pair) => pair.trim().split("="));
    const presented = pairs.find(([name]) => name === cookie)?.[1] ?? "";
    let current = presented;
    const key = `session:${presented}`;
    let found = ID.test(presented) ? ((await run(READ, key, IDLE)) ?? []) : [];
    const at = found.findIndex((name, at) => at % 2 === 0 && name === "@replaces");
    if (at >= 0 && !(await run(RENEWED, found[at + 1], key))) {
      await redis.del(key);
      found = [];
    }
    const put = (fields, pairs) => {
      for (let at = 0; at < pairs.length; at += 2) {
        if (!pairs[at].startsWith("@")) fields[pairs[at]] = pairs[at + 1];
      }
      return fields;
    };
    const session = {
      presented,
      id: found.length ? presented : undefined,
      fields: put(Object.create(null), found),
      // A login. Its session takes the place of the one before.
      async create(fields) {
        const id = randomUUID();
        const pairs = words(fields);
        // One step: without an end it would never go.
        await redis.multi().hSet(`session:${id}`, pairs).pExpire(`session:${id}`, IDLE).exec();
        if (ID.test(current)) await run(END, `session:${current}`, `session:${id}`);
        res.cookie(cookie, id, attributes);
        current = session.id = id;
        session.fields = put(Object.create(null), pairs);
        return id;
      },
      // Whether the session was still there. With its last field it ends.
      async write(changed, removed = []) {
        const pairs = words(changed);
        const { id, fields } = session;
        if (!id || !(await run(WRITE, `session:${id}`, removed.length, ...removed, ...pairs))) return false;
        put(fields, pairs);
        for (const name of removed) delete fields[name];
        if (!Object.keys(fields).length) await session.end();
        return true;
      },
      // A logout, also where another session has just taken this one's place.
      async end() {
        let key = ID.test(current) && `session:${current}`;
        while (key) key = await run(END, key);
        res.clearCookie(cookie, attributes);
        session.id = undefined;
        session.fields = Object.create(null);
      },
    };
    req.session = session;
    res.vary("Cookie");
    next();
  };
}
