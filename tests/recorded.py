"""What a running AnythingLLM 1.16 was recorded to send (tests/recordings), and what it means."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "recordings"
NAMES = sorted(path.stem for path in FOLDER.glob("*.sse"))

HELLO = "Hello ! This is a plain answer from the model ."
_RESET = "Chat history was reset!"


class Meaning(NamedTuple):
    """What a client must hear of one recording."""

    text: str = HELLO
    code: str | None = None  # of the error, if it fails
    message: str | None = None
    retryable: bool | None = None


@cache
def body(name: str) -> bytes:
    """Return the recorded body, the framing of chunks removed."""
    return (FOLDER / f"{name}.sse").read_bytes()


@cache
def cases() -> dict[str, Any]:
    """Return what was recorded beside the bodies: request, status, how it ended."""
    loaded: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text())
    return loaded


def frames(name: str) -> list[dict[str, Any]]:
    """Return the recorded frames, parsed independently of the code under test."""
    lines = body(name).split(b"\n")
    return [json.loads(line[len(b"data: ") :]) for line in lines if line.startswith(b"data: ")]


def _failed(text: str, code: str, message: str, *, retryable: bool) -> Meaning:
    return Meaning(text, code, message, retryable)


def _aborted(message: str, text: str = "", *, retryable: bool = True) -> Meaning:
    return _failed(text, "upstream_aborted", message, retryable=retryable)


_CUT = "AnythingLLM ended the stream before the answer was finished; ask again."
_EMPTY = "The model gave no answer; ask again, or ask differently."
_NOT_OURS = (
    "What answered sent no frame of AnythingLLM's; check that ANYTHINGLLM_BASE_URL is the address of "
    "an AnythingLLM server."
)
_OVERFLOW = "400 This model's maximum context length is 4096 tokens."
_FAULT = "500 The server had an error while processing your request"
_AGENT = "The agent model failed to respond: "
_HALF = "Hello ! This is a"

# Every recording that is not just HELLO.
_OTHERS = {
    "agent_empty": _failed("", "empty_answer", _EMPTY, retryable=True),
    "agent_llm_400": _aborted(_AGENT + _OVERFLOW),
    "agent_llm_429": _aborted(_AGENT + "429 Rate limit reached for requests"),
    "agent_llm_500": _aborted(_AGENT + _FAULT),
    "agent_llm_clean_eof_no_finish": Meaning(_HALF),
    "agent_llm_connection_refused": _aborted(_AGENT + "Connection error."),
    "agent_llm_error_object_first": _aborted(_AGENT + "model overloaded"),
    "agent_llm_error_object_midstream": _aborted(_AGENT + "model overloaded mid stream", _HALF),
    "agent_tool_with_text_before": Meaning("Let me look that up." + HELLO),
    "attachment_list_null": _aborted("Cannot read properties of null (reading 'contentString')"),
    "big_token_100k": Meaning("start " + "x" * 100_000 + " end"),
    "big_token_cjk": Meaning("开始 " + "汉😀" * 30_000 + " 结束"),
    "burst_2000": Meaning("".join(f"tok{n} " for n in range(2000))),
    "cjk": Meaning("你好，世界。日本語のテストです。한국어 테스트"),  # noqa: RUF001
    "embedder_up_llm_refused_docs": _aborted("Connection error."),
    "empty_answer": _failed("", "empty_answer", _EMPTY, retryable=True),
    "llm_400_context": _aborted(_OVERFLOW, retryable=False),
    "llm_401": _aborted("401 Incorrect API key provided: [redacted]", retryable=False),
    "llm_500": _aborted(_FAULT),
    "llm_clean_eof_no_finish": _failed(_HALF, "upstream_truncated", _CUT, retryable=True),
    "llm_connection_refused": _aborted("Connection error."),
    "llm_drop_midstream": _aborted("Premature close", _HALF),
    "llm_never_answers": _aborted("Request timed out."),
    "llm_pause_700s_midstream": _aborted("Socket timeout", _HALF),
    "message_array": _aborted("promptString.startsWith is not a function"),
    "newlines": Meaning(
        'line1\n\nline3\r\ndata: fake\n\n\u2028sep\u2029\0nul\ttab\\back"quote<b>&amp;</b>'
        "\n\n```js\ncode\n```\n"
    ),
    "ollama_500": _aborted("llama runner process has terminated: exit status 2"),
    "ollama_chat": Meaning("Hello from a local model."),
    "ollama_drop": _aborted(
        "Ollama:streaming - could not stream chat. SocketError: other side closed", "Hello from a"
    ),
    "openai_chat_stream": _failed("", "upstream_protocol", _NOT_OURS, retryable=False),
    "openai_chat_stream_docs": _failed("", "upstream_protocol", _NOT_OURS, retryable=False),
    "openai_chat_stream_llm_401": _failed("", "upstream_protocol", _NOT_OURS, retryable=False),
    "openai_chat_stream_llm_drop": _failed("", "upstream_protocol", _NOT_OURS, retryable=False),
    "provider_streaming_disabled_llm_500": _aborted(_FAULT),
    "query_no_documents": Meaning(
        "There is no relevant information in this workspace to answer your query."
    ),
    "reasoning": Meaning("<think>I should think first.</think>" + HELLO),
    "reasoning_only": Meaning("<think>I should think first."),
    "reset_only": Meaning(_RESET),
    "reset_only_mode": Meaning(_RESET),
    "reset_with_invalid_mode": Meaning(_RESET),
    "server_killed_midstream": _failed(
        "".join(f"tok{n} " for n in range(6)), "upstream_truncated", _CUT, retryable=True
    ),
    "session_reset": Meaning(_RESET),
    "surrogate_halves": Meaning("A😀B"),
    "thread_reset": Meaning(_RESET),
}


def meaning(name: str) -> Meaning:
    """Return what a client must hear of this recording, where the body ends as it was recorded."""
    return _OTHERS.get(name, Meaning())
