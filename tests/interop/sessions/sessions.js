import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

const [READ, RENEWED, WRITE, END] = ["read.lua", "renewed.lua", "write.lua", "end.lua"].map((name) =>
  readFileSync(new URL(name, import.meta.url), "utf8"),
);
const PREFIX = "session:"; // As the layer has it,
const IDLE = 900_000; // and its idle timeout, in milliseconds.
// Whoever sends the cookie must not choose any other key.
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** How fields are stored: a string as it is, everything else as JSON. */
export function stored(fields) {
  const texts = Object.create(null);
  for (const [name, value] of Object.entries(fields)) {
    texts[allowed(name)] = typeof value === "string" ? value : JSON.stringify(value);
    if (texts[name] === undefined) throw new Error(`${name} has no value`);
  }
  return texts;
}

function allowed(name) {
  if (name.startsWith("@")) throw new Error("names that begin with @ are the layer's own");
  return name;
}

export class Sessions {
  constructor(redis) {
    this.redis = redis;
  }

  #run(script, key, ...words) {
    return this.redis.eval(script, { keys: [key], arguments: words.map(String) });
  }

  /** The fields of a session, whose end this puts off; undefined where there is none. */
  async read(id) {
    const key = PREFIX + id;
    const words = ID.test(id) ? ((await this.#run(READ, key, IDLE)) ?? []) : [];
    const fields = Object.create(null);
    for (let at = 0; at < words.length; at += 2) fields[words[at]] = words[at + 1];
    const old = fields["@replaces"];
    if (old && !(await this.#run(RENEWED, old, key))) {
      await this.redis.del(key);
      return undefined;
    }
    if (old) await this.redis.hDel(key, "@replaces");
    for (const name in fields) if (name.startsWith("@")) delete fields[name];
    return words.length ? fields : undefined;
  }

  /** A new session, with at least one field; its id. */
  async create(fields) {
    const id = randomUUID();
    // One step: without an end it would never go.
    await this.redis.multi().hSet(PREFIX + id, stored(fields)).pExpire(PREFIX + id, IDLE).exec();
    return id;
  }

  /** Sets fields and removes others; whether the session was still there. */
  async write(id, changed, removed = []) {
    const pairs = Object.entries(stored(changed)).flat();
    return !!(await this.#run(WRITE, PREFIX + id, removed.length, ...removed.map(allowed), ...pairs));
  }

  /** A logout, also where another session has just taken its place. Or `by` does: the id of one that is there. */
  async end(id, by) {
    let key = ID.test(id) && PREFIX + id;
    while (key) key = await this.#run(END, key, ...(by ? [PREFIX + by] : []));
  }
}
