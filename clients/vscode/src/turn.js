/** A question and what becomes of it. No editor in here. */

const { Fences } = require("./fences.js");

/**
 * The code that a question is about.
 * @typedef {{uri: string, start: number, code: string, language: string}} Target
 *   `start` is the offset of `code` in the document as it was asked about
 *
 * @typedef {"running" | "complete" | "failed" | "stopped"} State
 * @typedef {{code: string, message: string, retryable: boolean}} Failure
 * @typedef {{title: string, url: string}} Source
 *
 * What is kept of a turn, and shown of it.
 * @typedef {object} Kept
 * @property {string} id
 * @property {number} time when it was asked, in milliseconds
 * @property {string} title what the user asked for
 * @property {string} question what was sent
 * @property {Target | null} target
 * @property {import("./stream.js").Place} place
 * @property {State} state
 * @property {string} text the answer
 * @property {string} reasoning
 * @property {string[]} progress
 * @property {{kind: string, text: string}[]} outputs
 * @property {Source[]} sources
 * @property {Failure | null} failure
 * @property {number} [seconds] that it took
 * @property {number} [tokens] all of them
 */

/** Characters of an answer, with all that comes beside it; more is stopped. */
const MOST = 2_000_000;
const MOST_PROGRESS = 1_000;
const MOST_OUTPUT = 100_000;

/** @returns {string} 128 random bits */
function randomId() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Turn {
  #fences = new Fences();
  #size = 0;

  /** @param {Kept} kept is kept up to date */
  constructor(kept) {
    this.kept = kept;
    /** @type {import("./fences.js").Piece[]} the text, cut into words and code */
    this.pieces = [];
    if (kept.text) this.#cut(this.#fences.feed(kept.text));
    if (kept.state !== "running") this.#cut(this.#fences.close());
    this.#size = kept.text.length + kept.reasoning.length;
  }

  /**
   * @param {string} title
   * @param {string} question
   * @param {Target | null} target
   */
  static asked(title, question, target = null) {
    const place = { key: randomId(), id: "", after: 0 };
    return new Turn({
      id: randomId(),
      time: Date.now(),
      ...{ title, question, target, place },
      ...{ state: "running", text: "", reasoning: "", progress: [], outputs: [], sources: [], failure: null },
    });
  }

  get running() {
    return this.kept.state === "running";
  }

  /** What came but may still become a fence. */
  get held() {
    return this.#fences.held;
  }

  /** Whether more came than is kept. */
  get overflows() {
    return this.#size > MOST;
  }

  /**
   * Take the next event.
   * @param {import("./stream.js").Told} told
   * @returns {import("./fences.js").Piece[]} what was added to the pieces
   */
  add(told) {
    const { kept } = this;
    this.#size += typeof told.content === "string" ? told.content.length : 0;
    if (told.type === "chunk") {
      kept.text += told.content;
      return this.#cut(this.#fences.feed(told.content));
    }
    if (told.type === "reasoning") kept.reasoning += told.content;
    else if (told.type === "thought" && kept.progress.length < MOST_PROGRESS) kept.progress.push(told.content);
    else if (told.type === "output") this.#put(output(told));
    else if (told.type === "error") kept.failure = { code: told.code, message: told.message, retryable: told.retryable };
    else if (told.type === "final_end") return this.#finish(told);
    return [];
  }

  /**
   * End it here: nothing follows.
   * @param {State} state
   * @param {Failure | null} failure
   */
  end(state, failure = null) {
    this.kept.state = state;
    this.kept.failure ??= failure;
    return this.#cut(this.#fences.close());
  }

  /** @param {{kind: string, text: string}} made */
  #put(made) {
    this.kept.outputs.push(made);
    this.#size += made.text.length;
  }

  /** @param {import("./stream.js").Told} told */
  #finish({ reason, sources, metrics }) {
    const seen = new Set();
    for (const { title, url, id } of sources ?? []) {
      const name = [title, url, id].find((one) => typeof one === "string" && one !== "");
      if (!name || seen.has(`${name}\n${url}`)) continue; // a document comes once for each part that was used
      seen.add(`${name}\n${url}`);
      this.kept.sources.push({ title: name, url: web(url) });
    }
    const { total_tokens: tokens, duration } = metrics ?? {};
    if (Number.isFinite(duration)) this.kept.seconds = duration;
    if (Number.isFinite(tokens)) this.kept.tokens = tokens;
    return this.end(reason === "cancelled" ? "stopped" : this.kept.failure || reason !== "complete" ? "failed" : "complete");
  }

  /** @param {import("./fences.js").Piece[]} pieces */
  #cut(pieces) {
    for (const piece of pieces) {
      const last = this.pieces.at(-1);
      if (last && last.kind === piece.kind && (piece.kind === "text" || piece.kind === "code")) last.text += piece.text;
      else this.pieces.push({ ...piece });
    }
    return pieces;
  }
}

/** @param {import("./stream.js").Told} told what an agent made */
function output({ kind, content }) {
  return { kind: String(kind), text: JSON.stringify(content, null, 2).slice(0, MOST_OUTPUT) };
}

/**
 * @param {unknown} url
 * @returns {string} the address of a web page, or nothing
 */
function web(url) {
  try {
    const { protocol, href } = new URL(String(url));
    return protocol === "http:" || protocol === "https:" ? href : "";
  } catch {
    return "";
  }
}

module.exports = { Turn, randomId, web };
