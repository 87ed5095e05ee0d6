import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

const [READ, RENEWED, WRITE, END] = ["read.lua", "renewed.lua", "write.lua", "end.lua"].map((name) =>
  readFileSync(new URL(name, import.meta.url), "utf8"),
);
// Whoever sends the cookie must not choose any other key.
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const IDLE = 900_000; // The layer's idle timeout, in milliseconds.
const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** `req.session`: `id`, `fields`, and `create`, `write` and `end`, which are to be awaited. */
export function sessions(redis, cookie = "session_id", attributes = { httpOnly: true, sameSite: "lax" }) {
  const run = (script, key, ...words) => redis.eval(script, { keys: [key], arguments: words.map(String) });
  const words = (fields) =>
    Object.entries(fields).flatMap(([name, value]) => {
      if (name.startsWith("@")) throw new Error("names that begin with @ are the layer's own");
      return [name, text(value)];
    });
  return async (req, res, next) => {
    const pairs = (req.headers.cookie ?? "").split(";").map((pair) => pair.trim().split("="));
    const presented = pairs.find(([name]) => name === cookie)?.[1] ?? "";
    const key = `session:${presented}`;
    let found = ID.test(presented) ? ((await run(READ, key, IDLE)) ?? []) : [];
    const at = found.findIndex((name, at) => at % 2 === 0 && name === "@replaces");
    if (at >= 0 && !(await run(RENEWED, found[at + 1], key))) {
      await redis.del(key);
      found = [];
    }
    const fields = Object.create(null);
    for (let at = 0; at < found.length; at += 2) {
      if (!found[at].startsWith("@")) fields[found[at]] = found[at + 1];
    }
    const id = found.length ? presented : undefined;
    // A logout, also where another session has just taken its place. Or the one with the key `taking` does.
    const end = async (...taking) => {
      let key = ID.test(presented) && `session:${presented}`;
      while (key) key = await run(END, key, ...taking);
    };
    req.session = {
      presented, id, fields,
      async create(fields) {
        const id = randomUUID();
        // One step: without an end it would never go.
        await redis.multi().hSet(`session:${id}`, words(fields)).pExpire(`session:${id}`, IDLE).exec();
        await end(`session:${id}`);
        res.cookie(cookie, id, attributes);
        return id;
      },
      // Whether the session was still there.
      async write(changed, removed = []) {
        return (await run(WRITE, `session:${id}`, removed.length, ...removed, ...words(changed))) === 1;
      },
      async end() {
        await end();
        res.clearCookie(cookie, attributes);
      },
    };
    res.vary("Cookie");
    next();
  };
}
