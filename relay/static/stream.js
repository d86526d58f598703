/** One answer of the relay, read to its end over as many connections as it takes (docs/protocol.md). */

import { Decoder } from "./sse.js";

/** Milliseconds: to a response's head; of silence, in which two comments of the relay should have come. */
const HEAD = 30_000;
const SILENCE = 45_000;
/** Connections in a row that brought no event, before it is given up, and the waits between them. */
export const TRIES = 10;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 8_000;
/** Milliseconds after which a connection was a good one, also without an event: an agent may be silent for long. */
const STEADY = 10_000;
/** Statuses that pass, of the relay or of a proxy in front of it. */
const PASSING = [408, 429, 502, 503, 504];

/**
 * Where an answer is read: `key` is its Idempotency-Key, `id` its stream's once that is known, `after`
 * the last event that came. A `plain` one ends with its connection: the relay had no room to hold it.
 * @typedef {{key: string, id: string, after: number, plain?: boolean}} Place
 * @typedef {{type: string} & Record<string, any>} Told an event's data
 */

/** What the relay would not do; `code` is from docs/protocol.md, or this page's own. */
export class Refusal extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {number} status
   * @param {number} wait seconds the relay asks to wait
   */
  constructor(code, message = "", status = 0, wait = 0) {
    super(message);
    this.code = code;
    this.status = status;
    this.wait = wait;
  }

  /** @param {Response} response */
  static async of(response) {
    const wait = Number(response.headers.get("Retry-After")) || 0;
    const told = await response.json().catch(() => null); // a proxy's own refusals are no JSON
    const code = typeof told?.code === "string" ? told.code : `http_${response.status}`;
    return new Refusal(code, typeof told?.error === "string" ? told.error : "", response.status, wait);
  }
}

/** @returns {string} 128 random bits; crypto.randomUUID is not there without TLS */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An answer on its way. Read it once. */
export class AnswerStream {
  #stopped = false;
  #abort = new AbortController();
  #connected = Infinity; // when, while there is a connection
  #place;
  #fields;
  #headers;
  #onConnection;

  /**
   * @param {Place} place is kept up to date
   * @param {Record<string, unknown>} fields of the question
   * @param {() => Record<string, string>} headers for every request: the key
   * @param {(lost: number) => void} onConnection told how often in a row the connection was lost; 0: it is there
   */
  constructor(place, fields, headers, onConnection) {
    this.#place = place;
    this.#fields = fields;
    this.#headers = headers;
    this.#onConnection = onConnection;
  }

  /**
   * All events, those of one read together. Ends after final_end, or when it was stopped.
   * Throws Refusal.
   * @returns {AsyncGenerator<Told[]>}
   */
  async *events() {
    if (this.#place.plain) throw new Refusal("connection_lost"); // with the page that asked
    let lost = 0;
    while (!this.#stopped) {
      let wait = 0;
      try {
        for await (const events of this.#connection()) {
          lost = 0;
          yield events;
          if (events.at(-1)?.type === "final_end") return;
        }
      } catch (error) {
        if (this.#stopped) return;
        if (error instanceof Refusal) {
          const resuming = lost > 0 || this.#place.id !== "";
          if (error.code === "resume_unavailable" && !resuming && !this.#place.plain) {
            this.#place.plain = true;
            this.#onConnection(0);
            continue;
          }
          if (!resuming || !PASSING.includes(error.status)) throw error;
          wait = error.wait * 1000;
        } else if (!(error instanceof TypeError || error instanceof DOMException)) {
          throw error; // no network's fault
        }
      }
      if (this.#stopped) return;
      if (Date.now() - this.#connected > STEADY) lost = 0;
      lost += 1;
      if (lost > TRIES || this.#place.plain) throw new Refusal("connection_lost");
      this.#onConnection(lost);
      await pause(Math.max(Math.min(wait, 30_000), Math.min(FIRST_WAIT * 2 ** (lost - 1), LONGEST_WAIT)));
    }
  }

  /**
   * Stop the answer, and AnythingLLM. Throws if the relay could not be told: it stops by itself then,
   * when nobody has read it for a while.
   */
  async stop() {
    this.#stopped = true;
    const { id, plain } = this.#place;
    if (!id && !plain) return; // the head is still to come, and `#open` stops what it tells of
    this.#abort.abort();
    if (id) await this.#cancel();
  }

  /** The events that one connection brings. */
  async *#connection() {
    this.#connected = Infinity;
    const quiet = new Watchdog(this.#renewed());
    try {
      quiet.within(HEAD);
      const response = await this.#open();
      if (!response?.body) throw new Refusal("unknown_stream"); // ended, and its end was read before
      const decoder = new Decoder();
      const reader = response.body.getReader();
      for (;;) {
        quiet.within(SILENCE);
        const { done, value } = await reader.read();
        if (done) return;
        const events = decoder.feed(value);
        if (!events.length) continue;
        this.#place.after = Number(events.at(-1)?.id); // 0 for those of a plain stream
        yield events.map(({ data }) => JSON.parse(data));
      }
    } finally {
      quiet.end(); // and the connection with it
    }
  }

  async #open() {
    const { id, after, key, plain } = this.#place;
    const sent = {
      ...this.#headers(),
      ...(id ? {} : { "Content-Type": "application/json" }),
      ...(id || plain ? {} : { "Idempotency-Key": key }),
    };
    const response = await (id
      ? fetch(`streams/${id}`, {
          headers: { ...sent, ...(after ? { "Last-Event-ID": String(after) } : {}) },
          signal: this.#abort.signal,
          cache: "no-store",
        })
      : fetch("stream-ask", {
          method: "POST",
          headers: sent,
          body: JSON.stringify(this.#fields),
          signal: this.#abort.signal,
        }));
    if (!response.ok) throw await Refusal.of(response);
    this.#place.id ||= response.headers.get("X-Stream-ID") ?? "";
    if (this.#stopped) {
      this.#abort.abort();
      await this.#cancel();
    }
    this.#connected = Date.now();
    this.#onConnection(0);
    return response.status === 204 ? null : response;
  }

  async #cancel() {
    for (let tried = 1; ; tried++) {
      try {
        const sent = { method: "DELETE", headers: this.#headers(), signal: AbortSignal.timeout(HEAD), keepalive: true };
        const response = await fetch(`streams/${this.#place.id}`, sent);
        if (response.ok || response.status === 404) return; // 404: it is long over
        if (tried === 3) throw await Refusal.of(response);
      } catch (error) {
        if (tried === 3) throw error;
      }
      await pause(FIRST_WAIT * tried);
    }
  }

  #renewed() {
    this.#abort = new AbortController();
    return this.#abort;
  }
}

/** Aborts what takes too long. */
class Watchdog {
  #timer = 0;
  #controller;

  /** @param {AbortController} controller */
  constructor(controller) {
    this.#controller = controller;
  }

  /** @param {number} limit milliseconds from now */
  within(limit) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(), limit);
  }

  end() {
    clearTimeout(this.#timer);
    this.#controller.abort();
  }
}

/**
 * Wait, but no longer than until the network is back.
 * @param {number} limit milliseconds
 * @returns {Promise<void>}
 */
function pause(limit) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, limit);
    addEventListener("online", done);
  });
}
