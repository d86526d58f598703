"""Settings: what is read, what wins, what is refused, and what the user is told."""

import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.settings import Loaded, Settings, SettingsError, load

REQUIRED = {
    "ANYTHINGLLM_BASE_URL": "http://127.0.0.1:3001",
    "ANYTHINGLLM_API_KEY": "R4ND0M7-C4P1TAL-L3TT3RS-0FK3YS1",
    "ANYTHINGLLM_WORKSPACE_SLUG": "docs",
}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - only a value to read
EXAMPLE = Path(__file__).parent.parent / ".env.example"

Env = Callable[..., None]
Dotenv = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("RELAY_", "ANYTHINGLLM_")):
            monkeypatch.delenv(name)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Env:
    """Set variables, on top of the three required ones."""

    def set_all(**values: str) -> None:
        for name, value in (REQUIRED | values).items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.fixture
def dotenv(tmp_path: Path) -> Dotenv:
    """Write a `.env` and give its path."""

    def write(text: str) -> Path:
        path = tmp_path / ".env"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(env_file: Path | None = None, *, host: str | None = None, port: int | None = None) -> str:
    """Load what cannot be loaded and give the message."""
    with pytest.raises(SettingsError) as caught:
        load(env_file, host=host, port=port)
    return str(caught.value)


def only_line(message: str) -> str:
    """Give the one bad key's line."""
    (line,) = [line for line in message.splitlines() if line.startswith("  ")]
    return line.strip()


def key_of(loaded: Loaded) -> str:
    """Reveal the key for AnythingLLM."""
    return loaded.settings.anythingllm_api_key.get_secret_value()


# --- Where values come from


def test_three_values_are_enough(env: Env) -> None:
    """With the required variables alone, everything else has its documented default."""
    env()
    settings, warnings = load(None).settings, load(None).warnings
    assert settings.anythingllm_base_url == "http://127.0.0.1:3001"
    assert settings.anythingllm_workspace_slug == "docs"
    assert settings.anythingllm_allowed_workspaces == {"docs"}
    assert settings.anythingllm_allowed_modes == {"chat", "query", "automatic"}
    assert (settings.relay_host, settings.relay_port) == ("localhost", 5000)
    assert settings.relay_allowed_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert (settings.relay_api_keys, settings.relay_allowed_origins) == ((), ())
    assert warnings == ()


def test_values_come_from_the_file_too(dotenv: Dotenv) -> None:
    """A `.env` may quote its values, put blanks around `=`, say `export` and hold comments."""
    loaded = load(
        dotenv(
            "\n# my relay\n"
            'ANYTHINGLLM_BASE_URL = "http://127.0.0.1:3001"  # here\n'
            "export ANYTHINGLLM_API_KEY='  secret-of-mine '\n"
            "ANYTHINGLLM_WORKSPACE_SLUG=docs\n"
        )
    )
    assert loaded.settings.anythingllm_base_url == "http://127.0.0.1:3001"
    assert key_of(loaded) == "secret-of-mine"
    assert loaded.warnings == ()


def test_the_environment_wins_over_the_file(env: Env, dotenv: Dotenv) -> None:
    """A real variable wins over the file; what only the file has still counts."""
    env(RELAY_PORT="6000")
    settings = load(dotenv("RELAY_PORT=7000\nRELAY_MAX_STREAMS=7")).settings
    assert (settings.relay_port, settings.relay_max_streams) == (6000, 7)


def test_the_command_line_wins_over_everything(env: Env, dotenv: Dotenv) -> None:
    """--host and --port win over the environment and the file."""
    env(RELAY_PORT="6000", RELAY_HOST="localhost")
    settings = load(dotenv("RELAY_PORT=7000"), host="127.0.0.2", port=0).settings
    assert (settings.relay_host, settings.relay_port) == ("127.0.0.2", 0)


def test_the_command_line_mends_a_bad_value(env: Env) -> None:
    """A bad RELAY_PORT does not matter when --port replaces it."""
    env(RELAY_PORT="nonsense")
    assert load(None, port=5001).settings.relay_port == 5001


@pytest.mark.parametrize("empty", ["", "   "])
def test_an_empty_value_is_not_set(env: Env, dotenv: Dotenv, empty: str) -> None:
    """An empty variable neither counts nor hides the file's value."""
    env(RELAY_PORT=empty, RELAY_HEARTBEAT=empty)
    settings = load(dotenv(f"RELAY_PORT=7000\nRELAY_MAX_STREAMS={empty}")).settings
    assert settings.relay_port == 7000
    assert (settings.relay_heartbeat, settings.relay_max_streams) == (15, 1000)


def test_blanks_around_a_value_are_trimmed(env: Env) -> None:
    """Blanks left over from copying are no part of a value."""
    env(ANYTHINGLLM_API_KEY=" secret-of-mine\n", RELAY_PORT=" 6000 ")
    loaded = load(None)
    assert (key_of(loaded), loaded.settings.relay_port) == ("secret-of-mine", 6000)


@pytest.mark.parametrize("key", ["pa$$word", "a$HOME", "a${HOME}b", "${ANYTHINGLLM_BASE_URL}", "a#b"])
def test_a_key_with_special_characters_survives(
    monkeypatch: pytest.MonkeyPatch, dotenv: Dotenv, key: str
) -> None:
    """`$` and `${...}` in a key are taken as they are, from the file and from the environment."""
    base = "ANYTHINGLLM_BASE_URL=http://h\nANYTHINGLLM_WORKSPACE_SLUG=docs\n"
    assert key_of(load(dotenv(f"{base}ANYTHINGLLM_API_KEY={key}"))) == key
    assert key_of(load(dotenv(f'{base}ANYTHINGLLM_API_KEY="{key}"'))) == key
    monkeypatch.setenv("ANYTHINGLLM_API_KEY", key)
    assert key_of(load(dotenv(base))) == key


def test_settings_made_by_hand_ignore_the_environment(env: Env) -> None:
    """`Settings(...)` holds what it was given and nothing from around it."""
    env(RELAY_PORT="6000")
    settings = Settings.model_validate({name.lower(): value for name, value in REQUIRED.items()})
    assert settings.relay_port == 5000
    with pytest.raises(ValidationError):
        Settings.model_validate({})


def test_settings_cannot_be_changed(env: Env) -> None:
    """Settings are frozen; a changed copy is made by model_copy."""
    env()
    settings = load(None).settings
    with pytest.raises(ValidationError):
        settings.relay_port = 1
    assert settings.model_copy(update={"relay_port": 1}).relay_port == 1


# --- The file itself


def test_an_old_file_works_unchanged(dotenv: Dotenv) -> None:
    """Lines for Flask and other names are ignored without a word."""
    loaded = load(
        dotenv(
            "FLASK_APP=app.py\nFLASK_DEBUG = 1\nFLASK_RUN_PORT=\nSECRET=XXX\n"
            + "".join(f"{name} = '{value}'\n" for name, value in REQUIRED.items())
        )
    )
    assert loaded.settings.relay_port == 5000
    assert loaded.warnings == ()


def test_a_byte_order_mark_does_no_harm(dotenv: Dotenv) -> None:
    """A file saved by Windows Notepad is read from its first line on."""
    lines = "".join(f"{name}={value}\n" for name, value in REQUIRED.items())
    assert load(dotenv("\ufeff" + lines)).warnings == ()


def test_a_missing_file_is_fine(env: Env, tmp_path: Path) -> None:
    """Without a `.env` the environment alone counts."""
    env()
    assert load(tmp_path / ".env").warnings == ()


def test_a_missing_file_is_named_when_values_are_missing(tmp_path: Path) -> None:
    """Who has no `.env` yet is told to copy the example; who reads none, or has one, is not."""
    assert "copy .env.example to .env" in refusal(tmp_path / ".env")
    assert "copy" not in refusal(None).splitlines()[-1].partition(";")[0]
    (tmp_path / ".env").touch()
    assert ".env.example" not in refusal(tmp_path / ".env")


def test_a_missing_file_is_not_blamed_for_a_bad_value(env: Env, tmp_path: Path) -> None:
    """With all values there, a bad one is no reason to copy the example."""
    env(RELAY_PORT="x")
    assert ".env.example" not in refusal(tmp_path / ".env")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A directory in the place of `.env` (a container's bind mount) is named with the reason."""
    assert refusal(tmp_path) == (
        f"Cannot read {tmp_path}: Is a directory; it must be a text file you may read."
    )


def test_a_file_that_may_not_be_read_is_refused(dotenv: Dotenv, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env` of another user is named with the reason."""
    path = dotenv("RELAY_PORT=1")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert f"Cannot read {path}: Permission denied" in refusal(path)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    """What PowerShell's `>` writes is UTF-16; the message says to save it as UTF-8."""
    path = tmp_path / ".env"
    path.write_bytes("RELAY_PORT=1".encode("utf-16"))
    assert refusal(path) == f"Cannot read {path}: save it again as UTF-8 text."


@pytest.mark.parametrize(
    "line",
    [
        "ANYTHINGLLM_API_KEY: very-secret",
        "ANYTHINGLLM_API_KEY:very-secret",
        "ANYTHINGLLM_API_KEY:very-secret==",
        "ANYTHINGLLM_API_KEY very-secret",
        'RELAY_API_KEYS="very-secret',
        "very-secret",
    ],
)
def test_a_line_that_is_no_setting_is_told_by_its_number(env: Env, dotenv: Dotenv, line: str) -> None:
    """A line that cannot be read is a warning with its number, and never with its text."""
    env()
    path = dotenv(f"# a comment\n\n\n{line}\nRELAY_PORT=6000\n")
    loaded = load(path)
    assert loaded.warnings == (f"{path}, line 4 is not NAME=value and is ignored",)
    assert loaded.settings.relay_port == 6000


# --- Warnings


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("RELAY_PROT", "RELAY_PROT is not a setting (did you mean RELAY_PORT?)"),
        ("relay_port", "relay_port is not a setting (did you mean RELAY_PORT?)"),
        (
            "ANYTHINGLLM_KEY",
            "ANYTHINGLLM_KEY is not a setting (did you mean ANYTHINGLLM_API_KEY?)",
        ),
        ("RELAY_QQQQQQQQQQQQQQQQ", "RELAY_QQQQQQQQQQQQQQQQ is not a setting"),
    ],
)
def test_a_misspelt_name_is_told(env: Env, dotenv: Dotenv, name: str, told: str) -> None:
    """An unknown name is a warning with the nearest known one, wherever it stands."""
    env()
    assert load(dotenv(f"{name}=6000")).warnings == (told,)
    env(**{name: "6000"})
    loaded = load(None)
    assert loaded.warnings == (told,)
    assert loaded.settings.relay_port == 5000


def test_an_open_relay_that_nobody_may_name_is_told(env: Env) -> None:
    """Listening beyond loopback without RELAY_ALLOWED_HOSTS works for no other machine: a warning."""
    env(RELAY_HOST=EVERYWHERE, RELAY_API_KEYS="long-enough-key")
    (warning,) = load(None).warnings
    assert "RELAY_ALLOWED_HOSTS" in warning
    env(RELAY_HOST=EVERYWHERE, RELAY_API_KEYS="long-enough-key", RELAY_ALLOWED_HOSTS="Relay.Local")
    loaded = load(None)
    assert loaded.warnings == ()
    assert loaded.settings.relay_allowed_hosts == ("relay.local",)


# --- The demo


def test_the_demo_needs_nothing() -> None:
    """--demo starts without a single setting and has nothing to say about it."""
    loaded = load(None, demo=True)
    assert loaded.settings.anythingllm_workspace_slug == "demo"
    assert loaded.settings.anythingllm_allowed_workspaces == {"demo"}
    assert key_of(loaded) == "stand-in-key"
    assert loaded.warnings == ()


def test_the_demo_ignores_the_real_anythingllm(monkeypatch: pytest.MonkeyPatch, dotenv: Dotenv) -> None:
    """--demo takes no ANYTHINGLLM_* value, good or bad, says which, and keeps RELAY_*."""
    monkeypatch.setenv("ANYTHINGLLM_MODE", "nonsense")
    path = dotenv("ANYTHINGLLM_API_KEY=very-secret\nANYTHINGLLM_ODD=1\nRELAY_PORT=6000\n")
    loaded = load(path, demo=True)
    assert loaded.settings.relay_port == 6000
    assert loaded.settings.anythingllm_mode == "chat"
    assert loaded.warnings == (
        "--demo talks to its own stand-in and ignores"
        " ANYTHINGLLM_API_KEY, ANYTHINGLLM_MODE, ANYTHINGLLM_ODD",
    )


# --- The message


def test_every_bad_key_is_named_at_once(env: Env) -> None:
    """One message has a line for each bad key: what is wrong, and how to mend it."""
    env(
        ANYTHINGLLM_BASE_URL="",
        ANYTHINGLLM_MODE="talk",
        RELAY_HOST=EVERYWHERE,
        RELAY_MAX_STREAMS="0",
        RELAY_ALLOWED_HOSTS="http://a,http://b",
    )
    first, *lines = refusal(None, port=70000).splitlines()
    assert first == "The relay cannot start with these settings:"
    assert [line.partition(":")[0] for line in lines] == [
        "  ANYTHINGLLM_BASE_URL",
        "  ANYTHINGLLM_MODE",
        "  --port",
        "  RELAY_API_KEYS",
        "  RELAY_ALLOWED_HOSTS",
        "  RELAY_MAX_STREAMS",
    ]
    assert all("; " in line for line in lines)
    assert (
        "  --port: '70000' is not allowed; write a whole number from 0 (any free port) to 65535" in lines
    )


def test_the_warnings_follow_what_is_bad(dotenv: Dotenv) -> None:
    """A misspelt name, or a line that is no setting, is often why a value is missing."""
    path = dotenv(
        "ANYTHINGLLM_BASE_URL=http://127.0.0.1:3001\n"
        "ANYTHINGLLM_API_KEY: very-secret\n"
        "ANYTHINGLLM_WORKSPACE=docs\n"
    )
    first, *lines = refusal(path).splitlines()
    assert first == "The relay cannot start with these settings:"
    assert [line.partition(":")[0] for line in lines[:2]] == [
        "  ANYTHINGLLM_API_KEY",
        "  ANYTHINGLLM_WORKSPACE_SLUG",
    ]
    assert lines[2:] == [
        f"Warning: {path}, line 2 is not NAME=value and is ignored",
        "Warning: ANYTHINGLLM_WORKSPACE is not a setting (did you mean ANYTHINGLLM_WORKSPACE_SLUG?)",
    ]


def test_missing_values_are_explained() -> None:
    """Each of the three required ones says where to find it."""
    message = refusal(None)
    for name, place in zip(
        REQUIRED, ("http://127.0.0.1:3001", "Developer API", "/workspace/"), strict=True
    ):
        assert re.search(rf"^  {name}: is not set; .*{re.escape(place)}", message, re.MULTILINE)


@pytest.mark.parametrize(
    "placeholders",
    [
        ("http://XXX:3001", "XXX-XXX", "XXX"),
        ("XXXXXXXX", '"XXXXXXX-XXXXXXX-XXXXXXX-XXXXXXX"', "'XXXXXX'"),
        ("https://XXX.XXX.XXX.XXX/api", "sk-XXXXXXXX", "my-XXX"),
    ],
)
def test_placeholders_count_as_missing(dotenv: Dotenv, placeholders: tuple[str, str, str]) -> None:
    """The X's of the example are told to be still there, for all three."""
    lines = "".join(f"{name}={value}\n" for name, value in zip(REQUIRED, placeholders, strict=True))
    message = refusal(dotenv(lines))
    assert message.count("still holds the placeholder XXX; ") == 3


def test_a_real_key_with_three_x_is_taken(env: Env) -> None:
    """AnythingLLM's keys are random capitals: X's inside a group are no placeholder."""
    env(ANYTHINGLLM_API_KEY="Q1XXXM7-C4P1TAL-L3TT3RS-0FK3YS1")
    assert key_of(load(None)).startswith("Q1XXX")


def test_no_secret_is_ever_shown(env: Env) -> None:
    """Secrets are in no representation of good settings."""
    env(RELAY_API_KEYS="first-secret,second-secret")
    loaded = load(None)
    for text in (repr(loaded), str(loaded.settings), loaded.settings.model_dump_json()):
        assert REQUIRED["ANYTHINGLLM_API_KEY"] not in text
        assert "-secret" not in text
    assert [key.get_secret_value() for key in loaded.settings.relay_api_keys] == [
        "first-secret",
        "second-secret",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANYTHINGLLM_API_KEY", "hush hush"),
        ("ANYTHINGLLM_API_KEY", "hush-\u00e9"),
        ("ANYTHINGLLM_API_KEY", "hush-\udcff"),
        ("ANYTHINGLLM_API_KEY", "hush-XXX"),
        ("RELAY_API_KEYS", "hush"),
        ("RELAY_API_KEYS", "long-enough-key,hush hush hush"),
        ("ANYTHINGLLM_BASE_URL", "hush"),
        ("ANYTHINGLLM_BASE_URL", "http://me:hush@host"),
        ("ANYTHINGLLM_BASE_URL", "http://host:hush"),
        ("ANYTHINGLLM_BASE_URL", "http://host?key=hush"),
        ("RELAY_REDIS_URL", "hush"),
        ("RELAY_REDIS_URL", "redis://:hush@"),
        ("RELAY_REDIS_URL", "http://:hush@host"),
        ("RELAY_REDIS_URL", "redis://host:hush"),
        ("RELAY_REDIS_URL", "redis://:hush@host:0"),
        ("RELAY_REDIS_URL", "redis://host?password=hush"),
        ("RELAY_REDIS_URL", "redis://host/hush"),
        ("RELAY_REDIS_URL", "redis://:hush hush@host"),
        ("RELAY_REDIS_URL", "redis://:XXX@hush"),
        ("RELAY_REDIS_URL", "unix://"),
    ],
)
def test_a_bad_secret_is_named_but_not_shown(env: Env, name: str, value: str) -> None:
    """The message, and the traceback if there were one, name the key and keep its value."""
    env(**{name: value})
    with pytest.raises(SettingsError) as caught:
        load(None)
    assert only_line(str(caught.value)).startswith(f"{name}: ")
    assert "hush" not in str(caught.value)
    assert "hush" not in "".join(traceback.format_exception(caught.value))


# --- Single values


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://[::1]:6380/",
        "redis://user:pass%40word@redis.example.com:6379/15",
        "rediss://:password@redis.example.com",
        "unix:///run/redis/socket",
    ],
)
def test_redis_may_be_anywhere(env: Env, url: str) -> None:
    env(RELAY_REDIS_URL=url)
    loaded = load(None)
    assert loaded.settings.relay_redis_url is not None
    assert loaded.settings.relay_redis_url.get_secret_value() == url
    assert url not in repr(loaded.settings)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://127.0.0.1:3001/", "http://127.0.0.1:3001"),
        ("http://127.0.0.1:3001/api", "http://127.0.0.1:3001"),
        ("http://127.0.0.1:3001/api/", "http://127.0.0.1:3001"),
        ("http://127.0.0.1:3001/api/v1/", "http://127.0.0.1:3001"),
        ("HTTPS://llm.example.com/tools//api", "https://llm.example.com/tools"),
        ("http://[::1]:3001", "http://[::1]:3001"),
        ("http://host/my-api", "http://host/my-api"),
    ],
)
def test_base_url_is_normalised(env: Env, written: str, meant: str) -> None:
    """The address may be written as it is found in AnythingLLM's documentation."""
    env(ANYTHINGLLM_BASE_URL=written)
    assert load(None).settings.anythingllm_base_url == meant


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("localhost:3001", "is not an http:// or https:// address"),
        ("127.0.0.1", "is not an http:// or https:// address"),
        ("ftp://host", "is not an http:// or https:// address"),
        ("http://", "is not an http:// or https:// address"),
        ("http://:3001", "is not an http:// or https:// address"),
        ("http://host:99999", "is not an http:// or https:// address"),
        ("http://host:0", "is not an http:// or https:// address"),
        ("http://[::1", "is not an http:// or https:// address"),
        ("http://my host", "is not an http:// or https:// address"),
        ("http://ho\tst", "is not an http:// or https:// address"),
        ("http://me@host", "has a user name or password"),
        ("http://host/?", "has a query or fragment"),
        ("http://host/#top", "has a query or fragment"),
    ],
)
def test_bad_base_url_is_refused(env: Env, written: str, told: str) -> None:
    """What is no plain address is refused with the reason and an example."""
    env(ANYTHINGLLM_BASE_URL=written)
    line = only_line(refusal())
    assert line.startswith(f"ANYTHINGLLM_BASE_URL: {told}")
    assert line.endswith("such as http://127.0.0.1:3001")


@pytest.mark.parametrize("slug", ["My Workspace", "a/b", "caf\u00e9", "x" * 256])
def test_bad_slug_is_refused(env: Env, slug: str) -> None:
    """A workspace's name is not its slug; the message says where the slug is found."""
    env(ANYTHINGLLM_WORKSPACE_SLUG=slug)
    line = only_line(refusal())
    assert line.startswith("ANYTHINGLLM_WORKSPACE_SLUG: '")
    assert "is not a workspace slug; write what follows /workspace/" in line


def test_allowed_workspaces_always_include_the_default(env: Env) -> None:
    """The list may or may not repeat the default workspace; blanks and empty entries do no harm."""
    env(ANYTHINGLLM_ALLOWED_WORKSPACES=" one, two ,,")
    assert load(None).settings.anythingllm_allowed_workspaces == {"docs", "one", "two"}


def test_bad_allowed_workspace_is_refused(env: Env) -> None:
    """The bad entry of the list is shown."""
    env(ANYTHINGLLM_ALLOWED_WORKSPACES="one,number two")
    line = only_line(refusal())
    assert line.startswith("ANYTHINGLLM_ALLOWED_WORKSPACES: 'number two' is not a workspace slug; ")


def test_mode_must_be_allowed(env: Env) -> None:
    """A default mode that no request may use is refused, also when it was not set."""
    env(ANYTHINGLLM_ALLOWED_MODES="query,automatic")
    assert only_line(refusal()).startswith(
        "ANYTHINGLLM_MODE: 'chat' is not in ANYTHINGLLM_ALLOWED_MODES; "
    )
    env(ANYTHINGLLM_ALLOWED_MODES="query,automatic", ANYTHINGLLM_MODE="query")
    assert load(None).settings.anythingllm_mode == "query"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANYTHINGLLM_MODE", "Chat"),
        ("ANYTHINGLLM_ALLOWED_MODES", "chat,talk"),
        ("RELAY_LOG_LEVEL", "loud"),
        ("RELAY_LOG_FORMAT", "xml"),
    ],
)
def test_a_choice_is_one_of_those_listed(env: Env, name: str, value: str) -> None:
    """Another word is refused, and the line lists the choices."""
    env(**{name: value})
    assert re.fullmatch(
        rf"{name}: '{value.rpartition(',')[2]}' is not allowed; write .*(chat|debug|text).*",
        only_line(refusal()),
    )


def test_log_level_may_be_written_in_capitals(env: Env) -> None:
    """RELAY_LOG_LEVEL=DEBUG is what many are used to."""
    env(RELAY_LOG_LEVEL="DEBUG")
    assert load(None).settings.relay_log_level == "debug"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("ANYTHINGLLM_CONNECT_TIMEOUT", "0.5", "0"),
        ("ANYTHINGLLM_FIRST_EVENT_TIMEOUT", "0", "-1"),
        ("ANYTHINGLLM_IDLE_TIMEOUT", "0", "-0.1"),
        ("ANYTHINGLLM_MAX_LINE_BYTES", "1024", "1023"),
        ("RELAY_PORT", "65535", "65536"),
        ("RELAY_PORT", "0", "-1"),
        ("RELAY_MAX_STREAMS", "1", "0"),
        ("RELAY_MAX_BODY_BYTES", "1024", "1023"),
        ("RELAY_HEARTBEAT", "0.1", "0"),
        ("RELAY_SEND_TIMEOUT", "0.1", "0"),
        ("RELAY_SHUTDOWN_GRACE", "0", "-1"),
    ],
)
def test_numbers_have_a_range(env: Env, name: str, good: str, bad: str) -> None:
    """The last good number is taken; the next one, and what is no finite number, is refused."""
    env(**{name: good})
    assert getattr(load(None).settings, name.lower()) == float(good)
    for value in (bad, "soon", "nan", "inf", "-inf"):
        env(**{name: value})
        assert only_line(refusal()).startswith(f"{name}: '{value}' is not allowed; write a ")


def test_a_long_bad_value_is_cut(env: Env) -> None:
    """A file pasted into a value does not flood the message."""
    env(RELAY_PORT="9" * 10_000)
    assert len(only_line(refusal())) < 150


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_loopback_needs_no_key(env: Env, host: str) -> None:
    """On this machine alone the relay may run without client keys."""
    env(RELAY_HOST=host)
    loaded = load(None)
    assert loaded.settings.relay_host == host.lower().strip("[]")
    assert loaded.warnings == ()


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.168.1.5", "relay.example.com", "127.evil.com"])
def test_beyond_loopback_needs_a_key(env: Env, host: str) -> None:
    """Whoever reaches the relay reaches all of AnythingLLM: without keys it does not start."""
    env()
    for line in (only_line(refusal(host=host)), only_line(refusal(host=f" {host} "))):
        start = f"RELAY_API_KEYS: is not set, nor is RELAY_API_KEYS_FILE, but {host} can be reached"
        assert line.startswith(start)
        assert "secrets.token_urlsafe(32)" in line
    env(RELAY_API_KEYS="long-enough-key")
    assert load(None, host=host).settings.relay_host == host


def test_a_file_of_keys_is_as_good(env: Env, tmp_path: Path) -> None:
    """With keys in a file the relay may be reached from everywhere."""
    file = tmp_path / "keys"
    file.write_text("long-enough-key\n")
    env(RELAY_HOST=EVERYWHERE, RELAY_API_KEYS_FILE=str(file))
    settings = load(None).settings
    assert (settings.relay_api_keys, settings.relay_api_keys_file) == ((), file)


def test_a_bad_file_of_keys_is_told_alone(env: Env, tmp_path: Path) -> None:
    """What is wrong with it, not that there are no keys, and no key is shown."""
    file = tmp_path / "keys"
    env(RELAY_HOST=EVERYWHERE, RELAY_API_KEYS_FILE=str(file))
    assert only_line(refusal()).startswith(f"RELAY_API_KEYS_FILE: is {file}, which cannot be read: ")
    file.write_text("long-enough-key\nhush\n")
    line = only_line(refusal())
    assert line.startswith(f"RELAY_API_KEYS_FILE: is {file}, whose line 2 holds a key of fewer than 8")
    assert line.endswith("; write the path of a text file with one key a line")
    assert "hush" not in line


@pytest.mark.parametrize(
    ("hosts", "named"),
    [
        ("relay.example.com", "relay.example.com"),
        ("localhost,relay.local:8443,[2001:db8::1]:5000", "relay.local:8443, [2001:db8::1]:5000"),
        ("localhost:5000,127.0.0.1,[::1]:5000,127.0.0.9:1", None),
    ],
)
def test_a_public_name_without_keys_is_warned_of(env: Env, hosts: str, named: str | None) -> None:
    """The relay cannot know of a reverse proxy, but for the names that clients use."""
    env(RELAY_ALLOWED_HOSTS=hosts)
    warnings = load(None).warnings
    assert len(warnings) == (named is not None)
    assert all(warning.startswith(f"RELAY_ALLOWED_HOSTS has {named}, but") for warning in warnings)
    assert all("without RELAY_API_KEYS or RELAY_API_KEYS_FILE" in warning for warning in warnings)
    env(RELAY_ALLOWED_HOSTS=hosts, RELAY_API_KEYS="long-enough-key")
    assert load(None).warnings == ()


@pytest.mark.parametrize("host", ["*", "localhost:5000", "http://localhost", "a b", "a,b"])
def test_bad_host_is_refused(env: Env, host: str) -> None:
    """What is no host is refused, whether it comes from a variable or from the command line."""
    env(RELAY_HOST=host)
    assert only_line(refusal()).startswith(f"RELAY_HOST: '{host}' is not a host name or IP address; ")
    assert only_line(refusal(host=host)).startswith(f"--host: '{host}' is not a host name")


def test_workers(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """--workers wins; several are refused where processes cannot be forked."""
    env(RELAY_WORKERS="3")
    assert load(None).settings.relay_workers == 3
    assert load(None, workers=2).settings.relay_workers == 2
    monkeypatch.delattr(os, "fork", raising=False)
    assert "RELAY_WORKERS: 3 processes cannot share a port on this system" in refusal()
    assert load(None, workers=1).settings.relay_workers == 1


@pytest.mark.parametrize("workers", ["0", "65", "two", "1.5"])
def test_a_bad_number_of_workers_is_refused(env: Env, workers: str) -> None:
    """From one to what anybody may want."""
    env(RELAY_WORKERS=workers)
    assert only_line(refusal()).startswith(
        f"RELAY_WORKERS: '{workers}' is not allowed; write a whole number"
    )


def test_an_empty_host_on_the_command_line_is_refused(env: Env) -> None:
    """--host "" must not open every interface."""
    env()
    assert only_line(refusal(host="")).startswith("--host: '' is not a host name")


def test_short_client_key_is_refused(env: Env) -> None:
    """A key that can be guessed is refused with the way to make a good one."""
    env(RELAY_API_KEYS="12345678,1234567")
    line = only_line(refusal())
    assert line.startswith("RELAY_API_KEYS: holds a key of fewer than 8 characters; make a key with")
    assert 'python -c "import secrets; print(secrets.token_urlsafe(32))"' in line


@pytest.mark.parametrize("name", ["RELAY_API_KEYS", "RELAY_ALLOWED_HOSTS", "ANYTHINGLLM_ALLOWED_MODES"])
def test_a_list_of_nothing_is_refused(env: Env, name: str) -> None:
    """Commas alone are a slip: they must not quietly mean no keys, or no hosts."""
    env(**{name: ", ,"})
    assert only_line(refusal()).startswith(f"{name}: holds only commas; ")


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.example.com",
        "http://localhost:8080",
        "http://[::1]:8080",
        "vscode-webview://*",
        "vscode-webview://0abc",
    ],
)
def test_good_origins_are_taken(env: Env, origin: str) -> None:
    """Origins are compared in lower case, as browsers send them."""
    env(RELAY_ALLOWED_ORIGINS=f"{origin.upper()}, https://other.example")
    assert load(None).settings.relay_allowed_origins == (origin, "https://other.example")


@pytest.mark.parametrize("origin", ["*", "http://*", "https://*"])
def test_an_origin_for_all_is_refused(env: Env, origin: str) -> None:
    """A star that means every web page is refused with the reason."""
    env(RELAY_ALLOWED_ORIGINS=origin)
    assert f"'{origin}' would let any web page read answers" in only_line(refusal())


@pytest.mark.parametrize(
    "origin", ["chat.example.com", "https://a/", "https://a/b", "https://*.a", "null", "https://u@a"]
)
def test_bad_origin_is_refused(env: Env, origin: str) -> None:
    """What a browser would never send as an origin is refused, for it would never match."""
    env(RELAY_ALLOWED_ORIGINS=origin)
    assert only_line(refusal()).startswith(
        f"RELAY_ALLOWED_ORIGINS: '{origin}' is not an origin; write origins such as https://"
    )


def test_allowed_hosts_may_have_ports(env: Env) -> None:
    """Names are compared in lower case; a port stays with its name."""
    env(RELAY_ALLOWED_HOSTS="Relay.Local:5000,[::1]:5000,192.168.1.5")
    hosts = load(None).settings.relay_allowed_hosts
    assert hosts == ("relay.local:5000", "[::1]:5000", "192.168.1.5")


@pytest.mark.parametrize("host", ["*", "http://relay", "relay/", "::1", "relay:http"])
def test_bad_allowed_host_is_refused(env: Env, host: str) -> None:
    """What no `Host` header can be is refused."""
    env(RELAY_ALLOWED_HOSTS=host)
    assert only_line(refusal()).startswith(f"RELAY_ALLOWED_HOSTS: '{host}' is not a host name with")


# --- The example file


def test_example_names_every_setting() -> None:
    """`.env.example` has each setting once: the required ones on, at the top, the others off."""
    names = re.findall(r"^(# )?([A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for off, name in names if not off] == list(REQUIRED)
    assert [name for _, name in names][:3] == list(REQUIRED)
    assert sorted(name.lower() for _, name in names) == sorted(Settings.model_fields)


def test_example_shows_the_defaults(env: Env, dotenv: Dotenv) -> None:
    """Turning on every line of `.env.example` changes nothing."""
    env()
    text = EXAMPLE.read_text(encoding="utf-8")
    switched_on = re.sub(r"^# ([A-Z_]+=)", r"\1", text, flags=re.MULTILINE)
    assert load(dotenv(switched_on)) == load(None)


def test_example_shows_each_default_that_is_not_empty() -> None:
    """A line without a value stands for what is empty or not there by default, and for nothing else."""
    text = EXAMPLE.read_text(encoding="utf-8")
    empty = {name.lower() for name in re.findall(r"^# ([A-Z_]+)=$", text, re.MULTILINE)}
    fields = Settings.model_fields.items()
    assert empty == {name for name, field in fields if field.default in ((), frozenset(), None)}


def test_example_copied_and_not_filled_in_is_told() -> None:
    """Copying the example and starting tells about the three values, and nothing else."""
    lines = [line for line in refusal(EXAMPLE).splitlines() if line.startswith("  ")]
    assert [line.partition(":")[0].strip() for line in lines] == list(REQUIRED)
    assert all("still holds the placeholder" in line for line in lines)
