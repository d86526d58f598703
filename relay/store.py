"""What relays share about resumable streams, in Redis: the only file that knows redis-py.

A stream has a home, the process that runs its answer, which writes; every process reads. In Redis are:

- `relay:stream:ID`, a hash: `owner` and `asked` (digests), `key` (the name of the next), `home`, `first`
  and `last` (ids of its events here), `end` (`ended`, or `lost` with its home), `stop` (once it shall
  end), `beat` (a counter that its home turns)
- `relay:asked:DIGEST`: the ID of the stream that an Idempotency-Key of an owner stands for
- `relay:events:ID`, a Redis stream: each entry holds some events, and its id is that of the last of them
- `relay:followers:ID`: the processes that want to hear of the next entry; hearing of it, they are out
- `relay:read:ID`: there as long as the stream counts as read by others than its home
- `relay:to:PROCESS`, a channel: `news ID` to followers, `stop ID` to a home
"""

import asyncio
import hashlib
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from relay.errors import Code, RelayError

# Seconds without a sign of its home after which a stream counts as lost with it, and between two signs.
LEASE: Final = 6.0
BEAT: Final = 2.0
# Seconds between two looks of a follower, at most.
_LOOK: Final = 1.0
# Seconds for one answer of Redis, and until it is tried again.
_TIMEOUT: Final = 2.0
_RETRY: Final = 0.5
# Seconds between two complaints about what Redis refuses.
_QUIET: Final = 60.0
# Connections of one process; whoever finds all of them busy waits its turn, as long as for an answer.
_CONNECTIONS: Final = 16
# Entries that are read at a time, of 64 KiB and one event at most, mostly far less.
_ENTRIES: Final = 8

# Keys: stream, asked. Arguments: id, owner, asked, home, milliseconds to live.
_ANNOUNCE: Final = """
if KEYS[2] ~= '' then
    local other = redis.call('GET', KEYS[2])
    if other and other ~= ARGV[1] and redis.call('EXISTS', 'relay:stream:' .. other) == 1 then
        return other
    end
    redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[5])
end
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'asked', ARGV[3], 'key', KEYS[2], 'home', ARGV[4],
    'first', 1, 'last', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return ARGV[1]
"""

# What writes an entry and tells the followers, and what prolongs a life; shared by the scripts below.
_SHARED: Final = """
local function add(last, count, data)
    redis.call('XADD', KEYS[2], last .. '-0', 'count', count, 'data', data)
    redis.call('HSET', KEYS[1], 'last', last)
end
local function tell(id)
    local heard = 0
    for _, follower in ipairs(redis.call('SMEMBERS', KEYS[3])) do
        heard = heard + redis.call('PUBLISH', 'relay:to:' .. follower, 'news ' .. id)
    end
    redis.call('DEL', KEYS[3])
    return heard
end
local function live(key, milliseconds)
    for _, one in ipairs({KEYS[1], KEYS[2], KEYS[3], key}) do
        if one ~= '' then redis.call('PEXPIRE', one, milliseconds) end
    end
end
"""

# Keys: stream, events, followers. Arguments: id, milliseconds to live, events held from, ended,
# last event before, last event of these, these. Returns what is here now, and how many heard of it.
_APPEND: Final = f"""{_SHARED}
local held = redis.call('HMGET', KEYS[1], 'last', 'end', 'stop', 'key')
if not held[1] then return {{-1, '', 0, 0}} end
local here, ended = tonumber(held[1]), held[2] or ''
local after, last = tonumber(ARGV[5]), tonumber(ARGV[6])
local heard = 0
if ended == '' and (here == after or here < after and after < tonumber(ARGV[3])) then
    if last > after then
        add(last, last - after, ARGV[7])
        redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
        redis.call('HSET', KEYS[1], 'first', ARGV[3])
        here = last
    end
    if ARGV[4] == '1' then
        ended = 'ended'
        redis.call('HSET', KEYS[1], 'end', ended)
    end
    if last > after or ended ~= '' then heard = tell(ARGV[1]) end
end
redis.call('HINCRBY', KEYS[1], 'beat', 1)
live(held[4], ARGV[2])
return {{here, ended, held[3] and 1 or 0, heard}}
"""

# Keys: stream, events, followers, read. Arguments: follower, first event, milliseconds to live and to be
# read.
_FOLLOW: Final = f"""{_SHARED}
local held = redis.call('HMGET', KEYS[1], 'first', 'last', 'end', 'beat', 'key')
if not held[1] then return false end
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('SET', KEYS[4], 1, 'PX', ARGV[4])
live(held[5], ARGV[3])
return {{held[1], held[2], held[3] or '', held[4] or '0',
    redis.call('XRANGE', KEYS[2], ARGV[2], '+', 'COUNT', {_ENTRIES})}}
"""

# Keys: stream, events, followers. Arguments: id, milliseconds to live, beat and last as seen, last event
# of the end, the end.
_LOSE: Final = f"""{_SHARED}
local held = redis.call('HMGET', KEYS[1], 'beat', 'last', 'end', 'key')
if (held[1] or '0') ~= ARGV[3] or held[2] ~= ARGV[4] or held[3] then return end
add(ARGV[5], 2, ARGV[6])
redis.call('HSET', KEYS[1], 'end', 'lost')
tell(ARGV[1])
live(held[4], ARGV[2])
"""

# Keys: stream. Arguments: id.
_STOP: Final = """
local home = redis.call('HGET', KEYS[1], 'home')
if not home then return end
redis.call('HSET', KEYS[1], 'stop', 1)
redis.call('PUBLISH', 'relay:to:' .. home, 'stop ' .. ARGV[1])
"""

# Keys: stream, events, followers, read. One that ended and counts as read stays until that is over.
_FORGET: Final = """
local left = redis.call('PTTL', KEYS[4])
local key = redis.call('HGET', KEYS[1], 'key')
local ended = redis.call('HGET', KEYS[1], 'end')
for _, one in ipairs({KEYS[1], KEYS[2], KEYS[3], key or ''}) do
    if one ~= '' then
        if ended and left > 0 then redis.call('PEXPIRE', one, left) else redis.call('DEL', one) end
    end
end
"""

log = logging.getLogger(__name__)


class Copied(NamedTuple):
    """What is here of a stream that its home writes: the last event's id, -1 if nothing is known of it.

    `lost`: others took its home for dead, and ended it. `stop`: somebody asked for its end. `heard`: how
    many processes follow it.
    """

    last: int
    lost: bool
    stop: bool
    heard: int


class Entry(NamedTuple):
    """Some events, as they go out: the ids of the first and the last of them."""

    first: int
    last: int
    data: bytes


class Seen(NamedTuple):
    """What is here of a stream, as a follower sees it; `entries` are those that it asked for."""

    first: int
    last: int
    end: str
    beat: int
    entries: list[Entry]


class Store:
    """Resumable streams in Redis, as one process writes and reads them.

    `patience` is how long a stream lives without a reader, in seconds. Whatever needs Redis raises
    RelayError (resume_unavailable) while that cannot be had.
    """

    def __init__(self, url: str, *, patience: float) -> None:
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            # A connection may have died unused; every script can be run twice.
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = Redis(connection_pool=self._pool)
        # In the pool's queue whoever comes may pass those who wait. Two are for hearing, and for a ping.
        self._turns = asyncio.Semaphore(_CONNECTIONS - 2)
        self.look = min(_LOOK, patience / 3)
        """Seconds between two looks of a follower that hears nothing: so often it counts as reading."""
        self._read_for = round(patience * 1000)
        self._live_for = round((patience + LEASE) * 1000)
        self._me = secrets.token_urlsafe(12)
        self._listeners: defaultdict[str, set[Callable[[], None]]] = defaultdict(set)
        self._up: bool | None = None  # not known yet
        self._settled_at = self._quiet_until = 0.0  # on the event loop's clock
        self._ping: Callable[[], Any] = self._redis.ping
        script = self._redis.register_script
        self._announce, self._append, self._follow = script(_ANNOUNCE), script(_APPEND), script(_FOLLOW)
        self._lose, self._stop, self._forget = script(_LOSE), script(_STOP), script(_FORGET)

    @property
    def up(self) -> bool:
        """Whether Redis could be reached a moment ago."""
        return self._up is True

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()
        await self._pool.disconnect()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen to what others tell, as long as the context lasts."""
        listening = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            await self.close()

    @contextmanager
    def listening(self, what: str, callback: Callable[[], None]) -> Iterator[None]:
        """Call it with each message of this text: `news ID`, of what is followed, or `stop ID`."""
        self._listeners[what].add(callback)
        try:
            yield
        finally:
            self._listeners[what].discard(callback)
            if not self._listeners[what]:
                del self._listeners[what]

    async def announce(self, id_: str, owner: bytes | None, key: str | None, asked: bytes) -> str:
        """Say that this process is the home of a stream, before it begins.

        Returns the stream that the owner's Idempotency-Key stands for, which may be another one.
        """
        keys = [f"relay:stream:{id_}", "" if key is None else _asked(owner, key)]
        told = [id_, digits(owner), asked.hex(), self._me, self._live_for]
        return str((await self._run(self._announce, keys, told)).decode())

    async def append(
        self, id_: str, after: int, last: int, data: bytes, *, first: int, ended: bool
    ) -> Copied:
        """Write what follows `after`, up to `last`; without any, say that the home is there.

        Nothing is written twice, or behind an end. Events before `first` are let go.
        """
        told = [id_, self._live_for, first, int(ended), after, last, data]
        here, end, stop, heard = await self._run(self._append, _keys(id_)[:3], told)
        return Copied(here, end == b"lost", bool(stop), heard)

    async def follow(self, id_: str, after: int) -> Seen | None:
        """Return what is here of a stream, and some of what follows `after`; None if it is not here.

        It counts as read now, and this process is told of what is written next.
        """
        told = [self._me, after + 1, self._live_for, self._read_for]
        held = await self._run(self._follow, _keys(id_), told)
        if held is None:
            return None
        first, last, end, beat, entries = held
        return Seen(int(first), int(last), end.decode(), int(beat), [_entry(*one) for one in entries])

    async def lose(self, id_: str, seen: Seen, last: int, end: bytes) -> None:
        """End a stream whose home is gone, with two events, unless it was not what was seen."""
        told = [id_, self._live_for, seen.beat, seen.last, last, end]
        await self._run(self._lose, _keys(id_)[:3], told)

    async def stop(self, id_: str) -> None:
        """Tell the home of a stream to end it."""
        await self._run(self._stop, _keys(id_)[:1], [id_])

    async def forget(self, id_: str) -> None:
        """Let go of a stream, now or once no other process reads it any more."""
        await self._run(self._forget, _keys(id_), [])

    async def read_for(self, id_: str) -> float:
        """Return for how many seconds it will still count as read by other processes."""
        milliseconds: int = await self._run(self._redis.pttl, f"relay:read:{id_}")
        if milliseconds < 0:
            self._refuse_unless_settled()
        return max(0, milliseconds) / 1000

    async def owner(self, id_: str) -> str | None:
        """Return the digest of the stream's owner, empty if it has none; None if it is not here."""
        owner = await self._run(self._redis.hget, f"relay:stream:{id_}", "owner")
        if owner is None:
            self._refuse_unless_settled()
            return None
        return str(owner.decode())

    async def asked(self, owner: bytes | None, key: str) -> tuple[str, bytes] | None:
        """Return the stream that an Idempotency-Key stands for, and the digest of what was asked."""
        id_ = await self._run(self._redis.get, _asked(owner, key))
        if id_ is None:
            self._refuse_unless_settled()
            return None
        asked = await self._run(self._redis.hget, f"relay:stream:{id_.decode()}", "asked")
        return None if asked is None else (id_.decode(), bytes.fromhex(asked.decode()))

    def _refuse_unless_settled(self) -> None:
        """After an outage, what Redis lost is written anew: until then, nothing is known to be gone."""
        if asyncio.get_running_loop().time() < self._settled_at:
            raise unavailable("Redis has only just come back")

    async def probe(self) -> None:
        """See whether Redis is there and can be written to. Raises RelayError (resume_unavailable)."""
        id_ = secrets.token_urlsafe(16)
        await self.announce(id_, None, None, b"")
        await self.forget(id_)

    async def _run(self, command: Callable[..., Any], *arguments: Any) -> Any:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._turns.acquire()
        except TimeoutError:
            raise unavailable() from None
        try:
            answer = await command(*arguments)
        except (RedisError, OSError) as error:
            _heed_cancellation()
            self._note(error)
            raise unavailable() from None
        finally:
            self._turns.release()
        _heed_cancellation()
        return answer

    async def _listen(self) -> None:
        """Hear what others tell this process, and see whether Redis is there. Never returns."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(f"relay:to:{self._me}")
                    while True:
                        _heed_cancellation()
                        if (message := await pubsub.get_message(timeout=1.0)) is not None:
                            self._hear(message["data"].decode(errors="replace"))
                        else:
                            await self._ping()
                        self._note_back()
            except (RedisError, OSError) as error:
                _heed_cancellation()
                self._note(error)
            await asyncio.sleep(_RETRY)

    def _hear(self, message: str) -> None:
        for callback in tuple(self._listeners.get(message, ())):
            callback()

    def _note(self, error: Exception) -> None:
        """Tell the log, and of what comes again and again once in a while."""
        cause = error.__cause__ or error  # a wrong password comes as a lost connection
        fields = {"error": type(cause).__name__}  # its words may hold what was sent
        now = asyncio.get_running_loop().time()
        if isinstance(error, ResponseError):
            if now >= self._quiet_until:
                self._quiet_until = now + _QUIET
                log.warning("Redis refuses", extra={"fields": fields})
            return
        if self._up is not False:
            log.warning("Redis cannot be reached", extra={"fields": fields})
        self._up = False

    def _note_back(self) -> None:
        if self._up is False:
            self._settled_at = asyncio.get_running_loop().time() + LEASE
            log.info("Redis can be reached again")
        self._up = True


def _heed_cancellation() -> None:
    """Be cancelled after all, where that was lost.

    redis-py sends with asyncio.wait_for, which before Python 3.12 returns as if nothing had been when it
    is cancelled just as it is done.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _keys(id_: str) -> list[str]:
    return [f"relay:{kind}:{id_}" for kind in ("stream", "events", "followers", "read")]


def _asked(owner: bytes | None, key: str) -> str:
    digest = hashlib.sha256(f"{digits(owner)} {key}".encode()).hexdigest()
    return f"relay:asked:{digest}"


def digits(owner: bytes | None) -> str:
    """Return an owner as it is written here; empty for none."""
    return "" if owner is None else owner.hex()


def _entry(id_: bytes, fields: list[bytes]) -> Entry:
    _, count, _, data = fields
    last = int(id_.partition(b"-")[0])
    return Entry(last + 1 - int(count), last, data)


def unavailable(why: str = "Redis (RELAY_REDIS_URL) cannot be used now") -> RelayError:
    """Return the refusal of what needs Redis."""
    message = f"{why}, so no stream can be resumed; try again, or ask without `resumable`."
    return RelayError(Code.RESUME_UNAVAILABLE, message, headers={"Retry-After": "1"})
