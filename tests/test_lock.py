"""What is installed is what is pinned: the lock files, and the environment that runs these tests."""

import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LOCKS = (
    "requirements.lock",
    "requirements-loadtest.lock",
    "requirements-test.lock",
    "requirements-dev.lock",
)
BENCH = "requirements-bench.lock"  # of an environment of its own, which none of this runs in
LOCKED = re.compile(r"[a-z0-9-]+==[0-9][\w.!+]*( ; [^#@]+?)?( --hash=sha256:[0-9a-f]{64})+")


def lines(name: str) -> list[str]:
    """What a requirements file says, without comments, a line for each thing it says."""
    text = re.sub(r" *\\\n *", " ", (ROOT / name).read_text())
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def pins(name: str) -> list[Requirement]:
    """The packages of a requirements file, with those of a file that it takes in."""
    found = []
    for line in lines(name):
        if line.startswith("-r "):
            found += pins(line.removeprefix("-r "))
        else:
            found.append(Requirement(line.partition(" --hash")[0]))
    return found


def hashes(name: str) -> dict[str, frozenset[str]]:
    """The hashes of a lock file by what they are the hashes of, `name==version`."""
    return {line.split()[0]: frozenset(re.findall(r"--hash=sha256:(\w+)", line)) for line in lines(name)}


@pytest.mark.parametrize("lock", [*LOCKS, BENCH])
def test_every_pin_is_in_its_lock(lock: str) -> None:
    """Same version, same systems; otherwise it is time for `make lock`."""
    assert not set(pins(lock.replace(".lock", ".txt"))) - set(pins(lock))


@pytest.mark.parametrize("lock", [*LOCKS, BENCH])
def test_a_lock_has_versions_and_hashes_and_nothing_else(lock: str) -> None:
    """No options, no addresses: where packages come from is for whoever installs them to say."""
    assert [line for line in lines(lock) if not LOCKED.fullmatch(line)] == []
    text = (ROOT / lock).read_text()
    assert (
        re.findall(r".*/.*|.*index-url.*|.*find-links.*|.*[a-z]\.(?:com|dev|io|net|org)\b.*", text) == []
    )


def test_the_locks_agree() -> None:
    """Who works on the relay has all that who runs it has, to the byte; what is shared is the same."""
    assert not hashes("requirements.lock").items() - hashes("requirements-dev.lock").items()
    ours, more = hashes("requirements.lock"), hashes("requirements-loadtest.lock")
    shared = {one.partition("==")[0] for one in ours} & {one.partition("==")[0] for one in more}
    assert shared
    assert {one: more[one] for one in more if one.partition("==")[0] in shared}.items() <= ours.items()


def test_make_installs_what_is_locked_only() -> None:
    """Every environment, and so CI, which makes them with make."""
    makefile = (ROOT / "Makefile").read_text()
    installed = re.findall(r"-m pip install (.*) -r (\S+)$", makefile, re.MULTILINE)
    assert sorted(file for _, file in installed) == sorted([*LOCKS, BENCH])
    assert all("--require-hashes" in options for options, _ in installed)


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_locked_runs_these_tests(lock: str) -> None:
    """Of the packages that only maintainers have, those that are here."""
    needed = {requirement.name for requirement in pins("requirements.lock")}
    for requirement in pins(lock):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            assert requirement.specifier.contains(version(requirement.name)), requirement
        except PackageNotFoundError:
            assert requirement.name not in needed


@pytest.mark.parametrize("lock", LOCKS)
def test_no_locked_package_asks_for_extras_of_another(lock: str) -> None:
    """Pip 23 looks for `name[extra]` past the lock, finds a newer version, and gives up."""
    for one in pins(lock):
        try:
            wanted = [Requirement(words) for words in requires(one.name) or ()]
        except PackageNotFoundError:
            continue  # a tool that only maintainers have
        for requirement in wanted:
            here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            assert not (here and requirement.extras), (one.name, requirement)
