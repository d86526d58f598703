/**
 * Server-Sent Events without any I/O: bytes in, events out.
 *
 * The rules are WHATWG's, HTML section 9.2 ("Parsing an event stream"), but for `retry`: the extension has
 * a patience of its own.
 */

/** Characters of one event; the relay sends none that is longer. */
const MOST = 32 * 2 ** 20;

/** @typedef {{event: string, data: string, id: string}} ServerSentEvent */

/** Turns a byte stream, cut anywhere, into events. */
class Decoder {
  #text = new TextDecoder(); // drops one leading BOM; what is no UTF-8 becomes U+FFFD
  #afterCr = false;
  /** @type {string[]} */
  #line = []; // pieces of the unfinished one, joined once
  /** @type {string[]} */
  #data = [];
  #size = 0; // of both
  #event = "";
  #id = "";

  /**
   * Return the events that these bytes complete. Throws RangeError for one that is too long.
   * @param {Uint8Array} bytes
   * @returns {ServerSentEvent[]}
   */
  feed(bytes) {
    let text = this.#text.decode(bytes, { stream: true });
    if (!text) return [];
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1); // a CRLF that was cut in two
    this.#afterCr = text.endsWith("\r");
    const lines = text.split(/\r\n|\r|\n/);
    const rest = /** @type {string} */ (lines.pop());
    /** @type {ServerSentEvent[]} */
    const events = [];
    for (const end of lines) {
      const line = this.#line.length ? this.#line.join("") + end : end;
      this.#line = [];
      if (line) this.#field(line);
      else this.#dispatch(events);
    }
    if (rest) {
      this.#line.push(rest);
      this.#grow(rest.length);
    }
    return events;
  }

  /** @param {string} line */
  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") {
      this.#data.push(value);
      this.#grow(value.length);
    } else if (name === "event") {
      this.#event = value;
    } else if (name === "id" && !value.includes("\0")) {
      this.#id = value;
    }
  }

  /** @param {ServerSentEvent[]} events */
  #dispatch(events) {
    if (this.#data.length) {
      events.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
    }
    this.#event = "";
    this.#data = [];
    this.#size = 0;
  }

  /** @param {number} size */
  #grow(size) {
    this.#size += size;
    if (this.#size > MOST) throw new RangeError(`an event of more than ${MOST} characters`);
  }
}

module.exports = { Decoder };
