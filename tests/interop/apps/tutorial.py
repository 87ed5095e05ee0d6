"""What the FastAPI app of Upstash's tutorial on sessions does, with the client that the environment says.

Its routes, its commands, its cookie and its answers are those of the tutorial, in code of our own. Where a session is gone,
the tutorial's code and the output that it shows have different texts: here it is that of the output. redis-py calls one
argument differently than upstash-redis. It knows nothing of tower-redis-session: only docs/interop.md does.

https://upstash.com/docs/redis/tutorials/python_session
"""

import os
import uuid

from fastapi import Cookie, FastAPI, HTTPException, Response
from pydantic import BaseModel

if "UPSTASH_REDIS_REST_URL" in os.environ:
    from upstash_redis import Redis

    redis = Redis.from_env()
    FIELDS = "values"
else:
    from redis import Redis

    redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    FIELDS = "mapping"

SESSION_TIMEOUT_SECONDS = 900

app = FastAPI()


class LoginRequest(BaseModel):
    username: str


@app.post("/login/")
async def login(request: LoginRequest, response: Response):
    session_id = str(uuid.uuid4())
    redis.hset(f"session:{session_id}", **{FIELDS: {"user": request.username, "status": "active"}})
    redis.expire(f"session:{session_id}", SESSION_TIMEOUT_SECONDS)
    response.set_cookie(key="session_id", value=session_id, httponly=True)
    return {"message": "Logged in successfully", "session_id": session_id}


@app.get("/profile/")
async def profile(session_id: str = Cookie(None)):
    if not session_id:
        raise HTTPException(status_code=403, detail="No session cookie found")
    session_data = redis.hgetall(f"session:{session_id}")
    if not session_data:
        # So does the tutorial, but this response is not the one that goes out: the browser keeps its cookie.
        response = Response()
        response.delete_cookie(key="session_id")
        raise HTTPException(status_code=404, detail="Session not found or expired")
    redis.expire(f"session:{session_id}", SESSION_TIMEOUT_SECONDS)
    return {"session_id": session_id, "session_data": session_data}


@app.post("/logout/")
async def logout(response: Response, session_id: str = Cookie(None)):
    if session_id:
        redis.delete(f"session:{session_id}")
        response.delete_cookie(key="session_id")
    return {"message": "Logged out successfully"}
