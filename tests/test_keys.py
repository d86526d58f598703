"""The clients' keys: what a file of them may hold, and how it is read again."""

import os
import sys
from pathlib import Path

import pytest

from relay.keys import ClientKeys, read
from tests.conftest import StartRelay
from tests.running import Relay

OLD, NEW, GIVEN = "old-key-of-a-client", "new-key", "key-of-the-settings"
ASKED = {"question": "!echo hi"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(OLD + "\n")
    return path


def problem(file: Path) -> str:
    with pytest.raises(ValueError, match=r"^is .*keys") as caught:
        read(file)
    return str(caught.value).removeprefix(f"is {file}, ")


# --- the file ---


def test_a_file_has_one_key_a_line(file: Path) -> None:
    file.write_bytes(
        b"\xef\xbb\xbf# editors\r\nfirst-key\r\n\n  second-key  \n#third-key, or what\nfourth-key"
    )
    assert read(file) == ["first-key", "second-key", "fourth-key"]


BAD_FILES = [
    (b"", "which holds no key"),
    (b"# nobody yet\n\n", "which holds no key"),
    (b"good-key\nshort-1\n", "whose line 2 holds a key of fewer than 8 characters"),
    (b"good-key\nsecret-1,secret-2\n", "whose line 2 holds a comma; write one key a line"),
    (b"secret-1, secret-2\n", "whose line 1 holds a comma; write one key a line"),
    (b"\ntwo words here\n", "whose line 2 holds a blank or a character beyond ASCII"),
    ("schlüssel-1".encode(), "whose line 1 holds a blank or a character beyond ASCII"),
    (b"secret-\xff\xfe", "which is no UTF-8 text"),
    (b"k" * (1024 * 1024 + 1), "which is no text file of keys"),
]


@pytest.mark.parametrize(("content", "words"), BAD_FILES, ids=[words for _, words in BAD_FILES])
def test_a_bad_file_is_named_with_its_line_but_without_its_keys(
    file: Path, content: bytes, words: str
) -> None:
    file.write_bytes(content)
    told = problem(file)
    assert told.startswith(words)
    assert not any(part in told for part in ("short-1", "two words", "schlüssel", "secret", "kkk"))


def test_what_is_no_file_is_refused(file: Path) -> None:
    file.unlink()
    assert problem(file) == "which cannot be read: No such file or directory"
    file.mkdir()
    assert problem(file) == "which is no text file of keys"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in its folders")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys")
    assert problem(tmp_path / "keys") == "which is no text file of keys"


# --- the keys ---


def test_a_client_is_told_from_others_by_its_key_alone(file: Path) -> None:
    keys = ClientKeys([GIVEN], file)
    owners = [keys.owner(key) for key in (GIVEN, OLD)]
    assert None not in owners
    assert owners[0] != owners[1]
    assert keys.owner(OLD) == ClientKeys([OLD]).owner(OLD)
    for wrong in ("", GIVEN[:-1], GIVEN + "x", GIVEN.upper(), f"{GIVEN}\n{OLD}", "\udcff"):
        assert keys.owner(wrong) is None


def test_keys_are_held_as_digests_only(file: Path) -> None:
    keys = ClientKeys([GIVEN], file)
    held = repr(vars(keys))
    assert GIVEN not in held
    assert OLD not in held


def test_without_any_keys_none_is_needed_but_an_unread_file_opens_nothing(file: Path) -> None:
    assert not ClientKeys()
    assert ClientKeys([GIVEN])
    file.unlink()
    keys = ClientKeys([], file)
    assert keys
    assert keys.owner(OLD) is None


def test_a_changed_file_counts_at_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = ClientKeys([GIVEN], file)
    file.write_text(f"{OLD}\n{NEW}-1\n")
    assert keys.owner(f"{NEW}-1")
    assert keys.owner(OLD)
    file.write_text(f"{NEW}-1\n")
    assert keys.owner(OLD) is None
    other = file.with_name("other")
    other.write_text(f"{NEW}-2\n")
    other.replace(file)  # as configuration tools write: a new file under the old name
    assert keys.owner(f"{NEW}-2")
    assert keys.owner(f"{NEW}-1") is None
    assert keys.owner(GIVEN)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_file_that_went_bad_changes_nothing_and_is_told_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ClientKeys([], file)
    for bad in ("short\n", ""):
        file.write_text(bad)
        assert keys.owner(OLD)
        assert keys.owner(OLD)
    file.unlink()
    assert keys.owner(OLD)
    assert keys.owner(OLD)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 3
    assert all(line.startswith(f"RELAY_API_KEYS_FILE is {file}, wh") for line in told)
    assert all("the keys read before stay in force" in line for line in told)
    file.write_text(f"{NEW}-3\n")
    assert keys.owner(f"{NEW}-3")
    assert keys.owner(OLD) is None


# --- the whole relay ---


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def status(relay: Relay, key: str) -> int:
    async with relay.client.post("/stream-ask", json=ASKED, headers=bearer(key)) as response:
        await response.read()
        return response.status


async def test_a_key_is_rotated_without_dropping_a_stream(start_relay: StartRelay, file: Path) -> None:
    relay = await start_relay(relay_api_keys=GIVEN, relay_api_keys_file=str(file))
    async with relay.asking("!endless !slow=0.01", headers=bearer(OLD)) as listening:
        await listening.until("chunk")
        file.write_text(f"{OLD}\n{NEW}-1\n")
        assert [await status(relay, key) for key in (OLD, f"{NEW}-1", GIVEN)] == [200, 200, 200]
        file.write_text(f"{NEW}-1\n")
        assert [await status(relay, key) for key in (OLD, f"{NEW}-1", GIVEN)] == [401, 200, 200]
        read_before = len(listening.raw)
        while len(listening.raw) < read_before + 1000:
            await listening.until("chunk")
