"""The original design: Flask and requests, a thread for each stream."""

import json
import os
from collections.abc import Iterator

import requests
from flask import Flask, Response, request
from requests.adapters import HTTPAdapter

URL = (
    f"{os.environ['ANYTHINGLLM_BASE_URL']}/api/v1/workspace/"
    f"{os.environ['ANYTHINGLLM_WORKSPACE_SLUG']}/stream-chat"
)
HEADERS = {"Authorization": f"Bearer {os.environ['ANYTHINGLLM_API_KEY']}"}

app = Flask(__name__)
session = requests.Session()
session.mount("http://", HTTPAdapter(pool_maxsize=int(os.environ["THREADS"])))


@app.post("/stream-ask")
def stream_ask() -> Response:
    """Ask AnythingLLM and pass its text on as it comes."""
    return Response(events(request.get_json()["question"]), mimetype="text/event-stream")


def events(question: str) -> Iterator[str]:
    """The answer as events."""
    body = {"message": question, "mode": "chat"}
    with session.post(URL, json=body, headers=HEADERS, stream=True) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith(b"data: "):
                continue
            frame = json.loads(line[6:].decode("utf-8"))
            if frame["type"] == "textResponseChunk" and frame["textResponse"]:
                yield event("chunk", {"content": frame["textResponse"]})
            elif frame["type"] == "abort":
                yield event("error", {"message": frame["error"]})
            elif frame["type"] == "finalizeResponseStream":
                yield event("final_end", {"sources": frame["sources"], "metrics": frame["metrics"]})


def event(name: str, data: dict[str, object]) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"
