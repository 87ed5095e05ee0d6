// The tutorial's API in express, on the middleware of docs/interop.md. And what only tests ask:
// `/set/`, `/again/` and `/none/`.
import express from "express";
import { createClient } from "redis";

import { sessions } from "../sessions/express_sessions.js";

const redis = await createClient({ url: process.env.REDIS_URL }).connect();
const app = express();
app.use(express.json());
app.use(sessions(redis));

app.post("/login/", async (req, res) => {
  const session_id = await req.session.create({ user: req.body.username, status: "active" });
  res.json({ message: "Logged in successfully", session_id });
});

app.get("/profile/", (req, res) => {
  const { presented, id, fields } = req.session;
  if (!presented) return res.status(403).json({ detail: "No session cookie found" });
  if (!id) return res.status(404).json({ detail: "Session not found or expired" });
  res.json({ session_id: id, session_data: fields });
});

// Sets the fields of the body; what is null there is removed.
app.post("/set/", async (req, res) => {
  const all = Object.entries(req.body);
  const changed = Object.fromEntries(all.filter(([, value]) => value !== null));
  const removed = all.filter(([, value]) => value === null).map(([name]) => name);
  res.json({ written: await req.session.write(changed, removed) });
});

app.post("/again/", async (req, res) => {
  await req.session.create({ user: "first", note: "x" });
  const id = await req.session.create({ user: "second", note: "x" });
  const written = await req.session.write({ visits: 1 }, ["note"]);
  res.json({ written, session_id: req.session.id, session_data: req.session.fields, same: id === req.session.id });
});

app.post("/none/", async (req, res) => {
  await req.session.write({ user: undefined });
  res.json({});
});

app.post("/logout/", async (req, res) => {
  await req.session.end();
  res.json({ message: "Logged out successfully" });
});

// The socket that whoever started this has opened.
app.listen({ fd: Number(process.env.FD) });
