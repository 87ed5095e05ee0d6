// The official npm client, with its defaults, on the tests' Upstash server. `test_clients.py` runs it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Redis } from "@upstash/redis";

const redis = Redis.fromEnv();
const FOUR_BYTES = "𠮷😀";

test("hashes", async () => {
  assert.equal(await redis.hset("h", { user: "abdullah", status: "active", visits: 3 }), 3);
  // It parses what it reads, by default.
  assert.deepEqual(await redis.hgetall("h"), { user: "abdullah", status: "active", visits: 3 });
  assert.equal(await redis.hget("h", "user"), "abdullah");
  assert.equal(await redis.hincrby("h", "visits", 4), 7);
  assert.equal(await redis.hdel("h", "visits"), 1);
  assert.equal(await redis.hgetall("not there"), null);
  assert.equal(await redis.hget("h", "not there"), null);
});

test("times to live", async () => {
  await redis.set("t", "x");
  assert.equal(await redis.ttl("t"), -1);
  assert.equal(await redis.expire("t", 900), 1);
  assert.ok([899, 900].includes(await redis.ttl("t")));
  assert.equal(await redis.expire("not there", 900), 0);
  assert.equal(await redis.ttl("not there"), -2);
  assert.equal(await redis.set("t", "x", { ex: 100 }), "OK");
  assert.ok([99, 100].includes(await redis.ttl("t")));
});

test("pipelines", async () => {
  const pipeline = redis.pipeline().hset("p", { a: "1" }).hgetall("p").expire("p", 900).ttl("p").get("not there");
  const [set, all, expire, ttl, none] = await pipeline.exec();
  assert.deepEqual([set, all, expire, none], [1, { a: 1 }, 1, null]);
  assert.ok([899, 900].includes(ttl));
  // One that fails leaves the others alone.
  const mixed = await redis.pipeline().get("p").hget("p", "a").exec({ keepErrors: true });
  assert.match(mixed[0].error, /^WRONGTYPE/);
  assert.equal(mixed[1].result, 1);
  await assert.rejects(redis.pipeline().get("p").exec(), /WRONGTYPE/);
});

test("what is asked at once is one pipeline", async () => {
  const [a, b, c] = await Promise.all([redis.set("a", 1), redis.set("b", 2), redis.get("not there")]);
  assert.deepEqual([a, b, c], ["OK", "OK", null]);
});

test("transactions", async () => {
  assert.deepEqual(await redis.multi().hset("m", { a: "x" }).expire("m", 900).hgetall("m").exec(), [1, 1, { a: "x" }]);
  // A command that Redis refuses to queue discards all of it.
  await assert.rejects(redis.multi().set("m2", "x").mget().exec(), /EXECABORT/);
  assert.equal(await redis.get("m2"), null);
});

test("scripts", async () => {
  const script = "return {KEYS[1], ARGV[1], redis.call('PTTL', KEYS[1]), false}";
  assert.deepEqual(await redis.eval(script, ["k"], ["a"]), ["k", "a", -2, null]);
  const sha1 = await redis.scriptLoad(script);
  assert.match(sha1, /^[0-9a-f]{40}$/);
  assert.deepEqual(await redis.evalsha(sha1, ["k"], ["b"]), ["k", "b", -2, null]);
  assert.deepEqual(await redis.createScript("return ARGV[1]").exec([], ["x"]), "x");
  await assert.rejects(redis.evalsha("0".repeat(40), [], []), /NOSCRIPT/);
  await assert.rejects(redis.eval("return redis.call('GET')", [], []), /ERR/);
});

test("every text survives", async () => {
  // By default it parses what looks like JSON. Told not to, it gives HGETALL's answer as it comes: names and texts in turn.
  const redis = Redis.fromEnv({ automaticDeserialization: false });
  for (const text of ["3", "true", "null", '{"a":1}', '"q"', "日本語", "a\0b", FOUR_BYTES, "OK", "QUJD", "", "%00/?"]) {
    await redis.hset(`text:${text}`, { [`f${text}`]: text });
    assert.deepEqual(await redis.hgetall(`text:${text}`), [`f${text}`, text]);
    assert.equal(await redis.hget(`text:${text}`, `f${text}`), text);
  }
  // What it writes is as this crate has it: strings bare, everything else JSON.
  await redis.hset("mixed", { text: "bare", object: { a: [1, true, null] } });
  assert.deepEqual(await redis.hgetall("mixed"), ["text", "bare", "object", '{"a":[1,true,null]}']);
});

test("refusals", async () => {
  await redis.hset("h", { a: "x" });
  await assert.rejects(redis.get("h"), /WRONGTYPE/);
  const stranger = new Redis({ url: process.env.UPSTASH_REDIS_REST_URL, token: "wrong", retry: false });
  await assert.rejects(stranger.get("h"), /WRONGPASS/);
});
