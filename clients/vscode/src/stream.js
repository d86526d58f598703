/** One answer of the relay, read to its end over as many connections as it takes (docs/protocol.md). */

const { Decoder } = require("./sse.js");
const { Lost, Refusal, Unreachable } = require("./refusal.js");

/** Milliseconds: to a response's head; of silence, in which two comments of the relay should have come. */
const HEAD = 30_000;
const SILENCE = 45_000;
/** Milliseconds between two looks at the clock. */
const TICK = 1_000;
/** Connections in a row that brought no event, before it is given up, and the waits between them. */
const TRIES = 10;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 8_000;
const LONGEST_ASKED_WAIT = 30_000;
/** Milliseconds after which a connection was a good one, also without an event: an agent may be silent for long. */
const STEADY = 10_000;
/** Statuses that pass, of the relay or of a proxy in front of it. */
const PASSING = [408, 429, 502, 503, 504];
const STREAM_ID = /^[\w-]{1,200}$/;

/**
 * Where an answer is read: `key` is its Idempotency-Key, `id` its stream's once that is known, `after`
 * the last event that came. A `plain` one ends with its connection: the relay had no room to hold it.
 * @typedef {{key: string, id: string, after: number, plain?: boolean}} Place
 * @typedef {{type: string} & Record<string, any>} Told an event's data
 * @typedef {{url: string, headers: Record<string, string>}} Relay where it answers, and the client's key
 * @typedef {{silence?: number, tick?: number, firstWait?: number, steady?: number}} Patience milliseconds, for tests
 */

/** An answer on its way. Read it once. */
class AnswerStream {
  #stopped = false;
  #left = false;
  #ended = false;
  #abort = new AbortController();
  #connected = Infinity; // when, while there is a connection
  #place;
  #fields;
  #relay;
  #onConnection;
  #patience;

  /**
   * @param {Place} place is kept up to date
   * @param {Record<string, unknown>} fields of the question
   * @param {Relay} relay
   * @param {(lost: number) => void} onConnection told how often in a row the connection was lost; 0: it is there
   * @param {Patience} patience
   */
  constructor(place, fields, relay, onConnection = () => {}, patience = {}) {
    this.#place = place;
    this.#fields = fields;
    this.#relay = relay;
    this.#onConnection = onConnection;
    this.#patience = { silence: SILENCE, tick: TICK, firstWait: FIRST_WAIT, steady: STEADY, ...patience };
  }

  /**
   * All events, those of one read together. Ends after final_end, or when it was stopped or left.
   * Throws Refusal.
   * @returns {AsyncGenerator<Told[]>}
   */
  async *events() {
    if (this.#place.plain) throw new Refusal("connection_lost"); // with the window that asked
    let lost = 0;
    let sent = this.#place.id !== "" || this.#place.after > 0;
    while (!this.#over) {
      let wait = 0;
      try {
        for await (const events of this.#connection()) {
          lost = 0;
          sent = true;
          this.#ended = events.at(-1)?.type === "final_end";
          yield events;
          if (this.#ended) return;
        }
      } catch (error) {
        if (this.#over) return;
        if (error instanceof Refusal) {
          if (error.code === "resume_unavailable" && !(sent || lost || this.#place.plain)) {
            this.#place.plain = true;
            this.#onConnection(0);
            continue;
          }
          if (!(sent || lost) || !PASSING.includes(error.status)) throw error;
          wait = Math.min(error.wait * 1000, LONGEST_ASKED_WAIT);
        } else if (!(error instanceof Lost)) {
          throw error; // no network's fault
        } else if (!sent && !lost && error.unsent) {
          throw new Unreachable(this.#relay.url, error);
        }
      }
      if (this.#over) return;
      const { firstWait, steady } = this.#patience;
      if (Date.now() - this.#connected > steady) lost = 0;
      lost += 1;
      if (lost > TRIES || this.#place.plain) throw new Refusal("connection_lost");
      this.#onConnection(lost);
      await this.#pause(Math.max(wait, Math.min(firstWait * 2 ** (lost - 1), LONGEST_WAIT)));
    }
  }

  /**
   * Stop the answer, and AnythingLLM, if it has not ended. Throws Lost or Refusal if the relay could not be told: it stops by
   * itself then, when nobody has read it for a while.
   */
  async stop() {
    if (this.#ended || this.#over) return;
    this.#stopped = true;
    const { id, plain } = this.#place;
    if (!id && !plain) return; // the head is still to come, and `#open` stops what it tells of
    this.#abort.abort();
    if (id) await this.#cancel();
  }

  /** Read no further; the answer goes on, and can be read again. */
  leave() {
    this.#left = true;
    this.#abort.abort();
  }

  get #over() {
    return this.#stopped || this.#left;
  }

  /** The events that one connection brings. */
  async *#connection() {
    this.#abort = new AbortController();
    this.#connected = Infinity;
    const quiet = new Watchdog(this.#abort, this.#patience.tick);
    try {
      quiet.within(HEAD);
      const response = await this.#open();
      if (!response?.body) throw new Refusal("unknown_stream"); // ended, and its end was read before
      const decoder = new Decoder();
      const reader = response.body.getReader();
      for (;;) {
        quiet.within(this.#patience.silence);
        const { done, value } = await reader.read().catch(lost);
        if (done) return;
        const events = decoder.feed(value).map(({ data, id }) => ({ told: parsed(data), after: Number(id) }));
        if (!events.length) continue;
        this.#place.after = events.at(-1)?.after || this.#place.after;
        yield events.map(({ told }) => told);
      }
    } finally {
      quiet.end(); // and the connection with it
    }
  }

  async #open() {
    const { id, after, key, plain } = this.#place;
    const response = await (id
      ? this.#fetch(`streams/${id}`, { headers: after ? { "Last-Event-ID": String(after) } : {} })
      : this.#fetch("stream-ask", {
          method: "POST",
          headers: { "Content-Type": "application/json", ...(plain ? {} : { "Idempotency-Key": key }) },
          body: JSON.stringify(this.#fields),
        }));
    if (!response.ok) throw await Refusal.of(response);
    if (response.status === 204) return null;
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) throw new Refusal("no_relay");
    const found = response.headers.get("X-Stream-ID") ?? "";
    if (STREAM_ID.test(found)) this.#place.id ||= found;
    if (this.#stopped) {
      this.#abort.abort();
      await this.#cancel();
    }
    this.#connected = Date.now();
    this.#onConnection(0);
    return response;
  }

  /**
   * @param {string} path
   * @param {RequestInit & {headers?: Record<string, string>}} request
   */
  async #fetch(path, { headers, ...request }) {
    return await fetch(`${this.#relay.url}/${path}`, {
      signal: this.#abort.signal,
      redirect: "error", // a key goes nowhere else
      ...request,
      headers: { ...this.#relay.headers, ...headers },
    }).catch(lost);
  }

  async #cancel() {
    for (let tried = 1; ; tried++) {
      try {
        const signal = AbortSignal.timeout(HEAD);
        const response = await this.#fetch(`streams/${this.#place.id}`, { method: "DELETE", signal });
        if (response.ok || response.status === 404) return; // 404: it is long over
        throw await Refusal.of(response);
      } catch (error) {
        if (tried === 3) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT * tried));
    }
  }

  /**
   * Wait, but not when nobody waits any more.
   * @param {number} limit milliseconds
   * @returns {Promise<void>}
   */
  #pause(limit) {
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, limit);
      signal.addEventListener("abort", done);
    });
  }
}

/**
 * Aborts what takes too long by the clock on the wall: in a laptop that sleeps no timer runs, and the
 * connection is dead when it wakes.
 */
class Watchdog {
  #since = Date.now();
  #limit = Infinity;
  #timer;
  #controller;

  /**
   * @param {AbortController} controller
   * @param {number} tick milliseconds
   */
  constructor(controller, tick) {
    this.#controller = controller;
    this.#timer = setInterval(() => this.#look(), tick);
  }

  /** @param {number} limit milliseconds from now */
  within(limit) {
    this.#since = Date.now();
    this.#limit = limit;
  }

  end() {
    clearInterval(this.#timer);
    this.#controller.abort();
  }

  #look() {
    this.#since = Math.min(this.#since, Date.now()); // the clock may have been put back
    if (Date.now() - this.#since > this.#limit) this.end();
  }
}

/**
 * @param {any} error of the network
 * @returns {never}
 */
function lost(error) {
  throw new Lost(error);
}

/**
 * @param {string} data
 * @returns {Told}
 */
function parsed(data) {
  try {
    const told = JSON.parse(data);
    if (typeof told?.type === "string") return told;
  } catch {
    // no JSON
  }
  throw new Refusal("no_relay");
}

module.exports = { AnswerStream, TRIES };
