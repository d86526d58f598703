"""How a question is posted: the short way, where it fits the library. What is sent: test_upstream.py."""

import aiohttp
import pytest

from relay import posting


def test_the_short_way_is_taken_only_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert posting._fits()
    assert posting.DIRECT

    class Other(aiohttp.ClientResponse):
        def __init__(self, method: str) -> None:
            pass

    monkeypatch.setattr(aiohttp, "ClientResponse", Other)
    assert not posting._fits()


def test_a_library_without_a_part_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(aiohttp.BaseConnector, "connect")
    assert not posting._fits()
