/** The line that says whether AnythingLLM would answer, and how many answers run. */

import { say } from "./words.js";

/** Milliseconds between two looks, and that one may take. */
const PERIOD = 15_000;
const LIMIT = 10_000;

/** Looks at the relay's health: now, whenever it is told to, and every 15 seconds while the page is seen. */
export class Status {
  #ready;
  #active;
  #headers;
  #onUnauthorized;
  #refused = ""; // the headers that were not let in
  #looks = 0;

  /**
   * @param {HTMLElement} root
   * @param {() => Record<string, string>} headers
   * @param {() => void} onUnauthorized told that the relay wants a key
   */
  constructor(root, headers, onUnauthorized) {
    this.#ready = /** @type {HTMLElement} */ (root.querySelector(".ready"));
    this.#active = /** @type {HTMLElement} */ (root.querySelector(".active"));
    this.#headers = headers;
    this.#onUnauthorized = onUnauthorized;
    setInterval(() => document.hidden || this.look(), PERIOD);
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
    this.look();
  }

  async look() {
    const look = ++this.#looks;
    const [ready, active] = await Promise.all([this.#askReady(), this.#askActive()]);
    if (look !== this.#looks) return; // a later one knows better
    say(this.#ready, ready.word);
    this.#ready.title = ready.message;
    this.#ready.dataset.state = ready.state;
    this.#active.hidden = active === null;
    if (active !== null) say(this.#active, active === 1 ? "active.one" : "active", { count: active });
  }

  async #askReady() {
    try {
      const response = await fetch("readyz", { signal: AbortSignal.timeout(LIMIT), cache: "no-store" });
      if (response.ok) return { word: "ready", message: "", state: "good" };
      const told = await response.json().catch(() => null);
      if (typeof told?.code !== "string" || response.status !== 503) {
        return { word: "ready.unknown", message: "", state: "" }; // a proxy keeps it to itself
      }
      return { word: `code.${told.code}`, message: String(told.error), state: "bad" };
    } catch {
      return { word: "ready.lost", message: "", state: "bad" };
    }
  }

  /** @returns {Promise<number | null>} how many answers run, if that is told */
  async #askActive() {
    const headers = this.#headers();
    if (this.#refused === JSON.stringify(headers)) return null;
    try {
      const response = await fetch("metrics", { headers, signal: AbortSignal.timeout(LIMIT), cache: "no-store" });
      if (response.status === 401) {
        this.#refused = JSON.stringify(headers);
        this.#onUnauthorized();
      }
      const found = /^relay_streams_active (\S+)/m.exec(response.ok ? await response.text() : "");
      return found && Number(found[1]);
    } catch {
      return null;
    }
  }
}
