"""The ordinary relay of today: FastAPI, httpx, uvicorn."""

import json
import os
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

URL = (
    f"{os.environ['ANYTHINGLLM_BASE_URL']}/api/v1/workspace/"
    f"{os.environ['ANYTHINGLLM_WORKSPACE_SLUG']}/stream-chat"
)
HEADERS = {"Authorization": f"Bearer {os.environ['ANYTHINGLLM_API_KEY']}"}

app = FastAPI()
client = httpx.AsyncClient(
    timeout=None, limits=httpx.Limits(max_connections=None, max_keepalive_connections=None)
)


class Question(BaseModel):
    """What a client sends."""

    question: str


@app.post("/stream-ask")
async def stream_ask(question: Question) -> StreamingResponse:
    """Ask AnythingLLM and pass its text on as it comes."""
    return StreamingResponse(events(question.question), media_type="text/event-stream")


async def events(question: str) -> AsyncIterator[str]:
    """The answer as events."""
    body = {"message": question, "mode": "chat"}
    async with client.stream("POST", URL, json=body, headers=HEADERS) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            frame = json.loads(line[6:])
            if frame["type"] == "textResponseChunk" and frame["textResponse"]:
                yield event("chunk", {"content": frame["textResponse"]})
            elif frame["type"] == "abort":
                yield event("error", {"message": frame["error"]})
            elif frame["type"] == "finalizeResponseStream":
                yield event("final_end", {"sources": frame["sources"], "metrics": frame["metrics"]})


def event(name: str, data: dict[str, object]) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"
