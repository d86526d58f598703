"""Settings from the environment and `.env`, checked at the start, with every bad one told at once.

The text of a failed check says what is wrong, the description of its field how to mend it. Together
they are the user's line, so that neither pydantic's words nor the value of a secret ever show.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from reprlib import repr as shown  # shortens: a whole file pasted into a value stays one line
from typing import Annotated, Final, Literal, get_args
from urllib.parse import urlsplit

from dotenv.parser import Binding, parse_stream
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from config import values
from relay.question import Mode

UPSTREAM: Final = "ANYTHINGLLM_"
OURS: Final = "RELAY_"
# What the demo runs with; its address is known only once the stand-in runs.
DEMO: Final = {
    "ANYTHINGLLM_BASE_URL": "http://127.0.0.1:1",
    "ANYTHINGLLM_API_KEY": "stand-in-key",
    "ANYTHINGLLM_WORKSPACE_SLUG": "demo",
}


class SettingsError(Exception):
    """The settings cannot be used; the text is the whole message for the user, without secrets."""


Slug = Annotated[str, AfterValidator(values.slug)]
Secret = Annotated[SecretStr, AfterValidator(values.secret)]
ClientKey = Annotated[Secret, AfterValidator(values.client_key)]
AcceptedHost = Annotated[str, AfterValidator(values.accepted_host)]
Origin = Annotated[str, AfterValidator(values.origin)]
CommaList = BeforeValidator(values.split_list)

SECONDS: Final = "write a number of seconds above 0"
SECONDS_OR_NONE: Final = "write a number of seconds, or 0 for no limit"
BYTES: Final = "write a whole number of bytes, 1024 or more"


class Settings(BaseModel):
    """Every setting, checked; each field is named as its variable in lower case."""

    model_config = ConfigDict(
        frozen=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=True
    )

    anythingllm_base_url: Annotated[str, AfterValidator(values.base_url)] = Field(
        description="write the address at which AnythingLLM answers, such as http://127.0.0.1:3001"
    )
    anythingllm_api_key: Secret = Field(
        description="make a key in AnythingLLM's settings under Tools > Developer API and copy it"
    )
    anythingllm_workspace_slug: Slug = Field(
        description="write what follows /workspace/ in the browser's address when the workspace is"
        " open in AnythingLLM (letters, digits, - and _)"
    )
    anythingllm_allowed_workspaces: Annotated[frozenset[Slug], CommaList] = Field(
        frozenset(),
        description="write workspace slugs (letters, digits, - and _) with commas between them",
    )
    anythingllm_allowed_modes: Annotated[frozenset[Mode], CommaList] = Field(
        frozenset(get_args(Mode)),
        description="write one or more of chat, query, automatic with commas between them",
    )
    anythingllm_mode: Mode = Field(
        "chat",
        description="write chat, query or automatic, and one that ANYTHINGLLM_ALLOWED_MODES allows",
    )
    anythingllm_connect_timeout: float = Field(10, gt=0, description=SECONDS)
    anythingllm_first_event_timeout: float = Field(660, ge=0, description=SECONDS_OR_NONE)
    anythingllm_idle_timeout: float = Field(180, ge=0, description=SECONDS_OR_NONE)
    anythingllm_max_line_bytes: int = Field(4_194_304, ge=1024, description=BYTES)

    relay_host: Annotated[str, AfterValidator(values.listen_host)] = Field(
        "localhost",
        description="write a name or address without a port, such as localhost, or 0.0.0.0 for"
        " every network interface",
    )
    relay_port: int = Field(
        5000, ge=0, le=65535, description="write a whole number from 0 (any free port) to 65535"
    )
    relay_workers: Annotated[int, AfterValidator(values.workers)] = Field(
        1, ge=1, le=64, description="write a whole number from 1 to 64; on Windows, 1"
    )
    relay_api_keys_file: Annotated[Path, AfterValidator(values.keys_file)] | None = Field(
        None, description="write the path of a text file with one key a line"
    )
    relay_api_keys: Annotated[tuple[ClientKey, ...], CommaList] = Field(
        (),
        description="make a key with"
        ' `python -c "import secrets; print(secrets.token_urlsafe(32))"`'
        " and write it here and in the clients",
    )
    relay_allowed_origins: Annotated[tuple[Origin, ...], CommaList] = Field(
        (),
        description="write origins such as https://chat.example.com (no path, no / at the end) or"
        " vscode-webview://* with commas between them",
    )
    relay_allowed_hosts: Annotated[tuple[AcceptedHost, ...], CommaList] = Field(
        ("localhost", "127.0.0.1", "[::1]"),
        description="write names such as relay.example.com, 192.168.1.5:5000 or [::1] with commas"
        " between them",
    )
    relay_max_streams: int = Field(1000, ge=1, description="write a whole number, 1 or more")
    relay_max_streams_per_key: int = Field(
        0, ge=0, description="write a whole number, or 0 for no limit of its own"
    )
    relay_max_connections: int = Field(
        default_factory=lambda given: 2 * given.get("relay_max_streams", 0) + 500,
        ge=1,
        description="write a whole number, 1 or more",
    )
    relay_max_body_bytes: int = Field(1_048_576, ge=1024, description=BYTES)
    relay_heartbeat: float = Field(15, gt=0, description=SECONDS)
    relay_send_timeout: float = Field(30, gt=0, description=SECONDS)
    relay_redis_url: Annotated[SecretStr, AfterValidator(values.redis_url)] | None = Field(
        None, description="write the address of a Redis, such as redis://127.0.0.1:6379/0"
    )
    relay_resume_window: float = Field(60, gt=0, description=SECONDS)
    relay_resume_bytes: int = Field(4_194_304, ge=1024, description=BYTES)
    relay_resume_total_bytes: int = Field(
        268_435_456, ge=16384, description="write a whole number of bytes, 16384 or more"
    )
    relay_shutdown_grace: float = Field(
        10, ge=0, description="write a number of seconds, or 0 to end streams at once"
    )
    relay_log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)
    ] = Field("info", description="write debug, info, warning or error")
    relay_log_format: Annotated[Literal["text", "json"], BeforeValidator(str.lower)] = Field(
        "text", description="write text or json"
    )

    @field_validator("anythingllm_allowed_workspaces")
    @classmethod
    def _include_default(cls, slugs: frozenset[str], info: ValidationInfo) -> frozenset[str]:
        default = info.data.get("anythingllm_workspace_slug")  # absent when it is bad itself
        return slugs | {default} if default else slugs

    @field_validator("anythingllm_mode")
    @classmethod
    def _require_allowed_mode(cls, mode: Mode, info: ValidationInfo) -> Mode:
        if mode not in info.data.get("anythingllm_allowed_modes", {mode}):
            raise ValueError(f"'{mode}' is not in ANYTHINGLLM_ALLOWED_MODES")
        return mode

    @field_validator("relay_api_keys")
    @classmethod
    def _require_keys_beyond_loopback(
        cls, keys: tuple[SecretStr, ...], info: ValidationInfo
    ) -> tuple[SecretStr, ...]:
        host = info.data.get("relay_host", "localhost")
        file = info.data.get("relay_api_keys_file", "one that is bad itself")
        if not keys and file is None and values.is_beyond_loopback(host):
            raise ValueError(
                f"is not set, nor is RELAY_API_KEYS_FILE, but {host} can be reached from other machines"
                " and the relay holds a key that opens the whole of AnythingLLM"
            )
        return keys


NAMES: Final = tuple(name.upper() for name in Settings.model_fields)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings and what the user should hear about them, one sentence each."""

    settings: Settings
    warnings: tuple[str, ...]


def load(
    env_file: Path | None,
    *,
    demo: bool = False,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
) -> Loaded:
    """Read the settings: the command line wins over the environment, that over the file."""
    in_file, warnings = _read(env_file)
    given = _filled(in_file) | _filled(os.environ)
    if demo:
        warnings += _ignored_by_demo(given)
        given = {name: value for name, value in given.items() if not name.startswith(UPSTREAM)}
        given |= DEMO
    warnings += _unknown(given)

    options = {
        name: str(value)
        for name, value in (("RELAY_HOST", host), ("RELAY_PORT", port), ("RELAY_WORKERS", workers))
        if value is not None
    }
    given |= options
    try:
        settings = Settings.model_validate({n.lower(): given[n] for n in NAMES if n in given})
    except ValidationError as error:
        message = _message(error.errors(), options, env_file)
        told = [f"Warning: {warning}" for warning in warnings]
        raise SettingsError("\n".join([message, *told])) from None
    warnings += [*_unreachable(settings), *_open_to_all(settings)]
    return Loaded(settings, tuple(warnings))


def _read(env_file: Path | None) -> tuple[dict[str, str], list[str]]:
    """Parse the file with python-dotenv's parser, below the layer that expands `${...}`."""
    if env_file is None:
        return {}, []
    try:
        text = env_file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise SettingsError(
            f"Cannot read {env_file}: {error.strerror}; it must be a text file you may read."
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"Cannot read {env_file}: save it again as UTF-8 text.") from None

    found: dict[str, str] = {}
    warnings = []
    for binding in parse_stream(StringIO(text)):
        if binding.key and binding.key.isidentifier() and binding.value is not None:
            found[binding.key] = binding.value
        elif binding.error or binding.key is not None:
            # Without the line itself: "ANYTHINGLLM_API_KEY:secret" is one of these.
            warnings.append(f"{env_file}, line {_line(binding)} is not NAME=value and is ignored")
    return found, warnings


def _line(binding: Binding) -> int:
    """Count the blank lines before it, at which dotenv says it starts."""
    source = binding.original.string
    return binding.original.line + source[: -len(source.lstrip())].count("\n")


def _filled(given: Mapping[str, str]) -> dict[str, str]:
    """Trim every value and leave out the empty ones, which count as not set."""
    return {name: value.strip() for name, value in given.items() if value.strip()}


def _ignored_by_demo(given: Mapping[str, str]) -> Iterator[str]:
    if names := sorted(name for name in given if name.startswith(UPSTREAM)):
        yield f"--demo talks to its own stand-in and ignores {', '.join(names)}"


def _unknown(given: Mapping[str, str]) -> Iterator[str]:
    """Catch misspelt names; `relay_port` is one too, for on most systems case matters."""
    for name in sorted(given):
        if name.upper().startswith((UPSTREAM, OURS)) and name not in NAMES:
            near = difflib.get_close_matches(name.upper(), NAMES, n=1)
            yield f"{name} is not a setting" + (f" (did you mean {near[0]}?)" if near else "")


def _unreachable(settings: Settings) -> Iterator[str]:
    host = settings.relay_host
    if values.is_beyond_loopback(host) and "relay_allowed_hosts" not in settings.model_fields_set:
        yield (
            f"RELAY_HOST is {host}, but clients on other machines will be refused unless"
            " RELAY_ALLOWED_HOSTS names the host they use"
        )


def _open_to_all(settings: Settings) -> Iterator[str]:
    """Behind a reverse proxy the relay listens on loopback, and still strangers reach it."""
    beyond = [host for host in settings.relay_allowed_hosts if values.is_beyond_loopback(_name(host))]
    if beyond and not settings.relay_api_keys and settings.relay_api_keys_file is None:
        yield (
            f"RELAY_ALLOWED_HOSTS has {', '.join(beyond)}, but without RELAY_API_KEYS or"
            " RELAY_API_KEYS_FILE everybody who reaches the relay under that name may ask"
        )


def _name(host: str) -> str:
    """Return a host name without its port and brackets."""
    return urlsplit(f"//{host}").hostname or host


def _message(errors: list[ErrorDetails], options: Mapping[str, str], env_file: Path | None) -> str:
    lines: dict[str, str] = {}  # a list with two bad entries is still one bad key
    for error in errors:
        if error["type"] == "default_factory_not_called":  # follows another error, and says nothing new
            continue
        field = str(error["loc"][0])
        name = field.upper()
        label = "--" + name.removeprefix(OURS).lower() if name in options else name
        mend = Settings.model_fields[field].description
        lines.setdefault(name, f"  {label}: {_problem(error)}; {mend}")
    text = "The relay cannot start with these settings:\n" + "\n".join(lines.values())
    missing = any(error["type"] == "missing" for error in errors)
    if missing and env_file is not None and not env_file.exists():
        text += f"\nThere is no {env_file}: copy .env.example to .env and fill in the values."
    return text


def _problem(error: ErrorDetails) -> str:
    match error["type"]:
        case "missing":
            return "is not set"
        case "value_error":
            return str(error["ctx"]["error"])
        case _:  # numbers and choices: no secret among them
            return f"{shown(error['input'])} is not allowed"
