"""Hypothesis strategies that spoil good bytes, as networks, proxies and attackers do."""

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

Edit = tuple[str, int, bytes | int]

_MOST = 40  # bytes that one edit takes away, doubles or moves


def spoiled(
    goods: Iterable[bytes], odd: Sequence[bytes] = (b"\0",), most: int = 3
) -> st.SearchStrategy[bytes]:
    """Return one of `goods` after up to `most` edits; `odd` are pieces that one of them may put in."""
    return st.one_of([st.builds(edited, st.just(good), _edits(good, odd, most)) for good in goods])


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """Do each of the edits."""
    for what, at, how in edits:
        data = _with(data, what, at, how)
    return data


def _edits(good: bytes, odd: Sequence[bytes], most: int) -> st.SearchStrategy[list[Edit]]:
    head = good.partition(b"\r\n\r\n")[0]
    lines = st.sampled_from([0, *[at + 1 for at, byte in enumerate(head) if byte == ord("\n")]])
    at = st.integers(0, len(good))
    size = st.integers(1, _MOST)
    piece = st.sampled_from(odd)
    edit: st.SearchStrategy[Edit] = st.one_of(
        st.tuples(st.just("insert"), at, piece | st.binary(min_size=1, max_size=6)),
        st.tuples(st.just("insert"), lines, piece),
        st.tuples(st.just("set"), at, st.integers(0, 255)),
        st.tuples(st.just("flip"), at, st.integers(0, 7)),
        st.tuples(st.just("cut"), at | lines, size),
        st.tuples(st.just("double"), at | lines, size),
        st.tuples(st.just("move"), at, at),
        st.tuples(st.just("end"), at, st.just(0)),
    )
    return st.lists(edit, max_size=most)


def _with(data: bytes, what: str, at: int, how: bytes | int) -> bytes:
    before, after = data[:at], data[at:]
    if isinstance(how, bytes):
        return before + how + after
    match what:
        case "flip":
            return before + bytes(byte ^ 1 << how for byte in after[:1]) + after[1:]
        case "set":
            return before + bytes([how]) + after[1:]
        case "cut":
            return before + after[how:]
        case "double":
            return before + after[:how] * 2 + after[how:]
        case "move":
            rest = before + after[_MOST:]
            return rest[:how] + after[:_MOST] + rest[how:]
        case _:
            return before


def cuts(longest: int = 60) -> st.SearchStrategy[list[int]]:
    """Sizes of reads, the last of which repeats (tests.cuts.pieces)."""
    return st.lists(st.integers(1, longest), min_size=1, max_size=8)
