/** What this tab remembers, so that a reload loses nothing: the conversation, and where its answer is read. */

import { randomId } from "./stream.js";

/** @typedef {import("./stream.js").Told} Told */

/** Characters that are kept; a browser has room for about five million. */
const MOST = 2_000_000;

/** Texts that live as long as the tab, or only as long as the page where the browser forbids to keep any. */
export const kept = {
  /** @param {string} name */
  get(name) {
    try {
      return sessionStorage.getItem(name);
    } catch {
      return null;
    }
  },
  /**
   * @param {string} name
   * @param {string} text
   */
  set(name, text) {
    try {
      sessionStorage.setItem(name, text);
    } catch {
      // forbidden, or full: then a reload forgets
    }
  },
};

/** A question and the events that answer it. */
export class Turn {
  /** @type {{told: Told, pieces: string[]}[]} */
  #told = [];

  /**
   * @param {string} question
   * @param {import("./stream.js").Place} place
   */
  constructor(question, place = { key: randomId(), id: "", after: 0 }) {
    this.question = question;
    this.place = place;
  }

  /** @param {Told} told the next event; pieces of one text become one */
  add(told) {
    const last = this.#told.at(-1);
    const text = told.type === "chunk" || told.type === "reasoning";
    if (text && last?.told.type === told.type) last.pieces.push(told.content);
    else this.#told.push({ told, pieces: text ? [told.content] : [] });
  }

  /** The events so far, the fewest that say the same. */
  get events() {
    return this.#told.map(({ told, pieces }) => (pieces.length ? { ...told, content: pieces.join("") } : told));
  }

  get ended() {
    return this.#told.at(-1)?.told.type === "final_end";
  }

  /** The answer. */
  get text() {
    const chunks = this.#told.filter(({ told }) => told.type === "chunk");
    return chunks.map(({ pieces }) => pieces.join("")).join("");
  }

  /** Begin again: the same question is another one to the relay. */
  reset() {
    this.#told = [];
    this.place = { key: randomId(), id: "", after: 0 };
  }

  toJSON() {
    return { question: this.question, place: this.place, events: this.events };
  }

  /** @param {{question: string, place: import("./stream.js").Place, events: Told[]}} saved */
  static from({ question, place, events }) {
    const turn = new Turn(question, place);
    for (const told of events) turn.add(told);
    return turn;
  }
}

/** The conversation of this tab. */
export class Conversation {
  session = randomId();
  /** @type {Turn[]} */
  turns = [];
  /** Whether older turns were too long to be kept. */
  cut = false;

  /** The one that the tab had before a reload, or a new one. */
  static load() {
    const conversation = new Conversation();
    try {
      const saved = JSON.parse(kept.get("conversation") ?? "");
      conversation.turns = saved.turns.map(Turn.from);
      conversation.session = saved.session;
      conversation.cut = saved.cut;
    } catch {
      // there is none
    }
    return conversation;
  }

  save() {
    /** @type {string[]} */
    const turns = [];
    let room = MOST;
    let cut = this.cut;
    for (const turn of this.turns.toReversed()) {
      let json = JSON.stringify(turn);
      if (json.length > room && !turn.ended) {
        // Read again from its start then.
        json = JSON.stringify({ question: turn.question, place: { ...turn.place, after: 0 }, events: [] });
      }
      room -= json.length;
      cut ||= room < 0;
      if (room < 0) break;
      turns.unshift(json);
    }
    kept.set("conversation", `{"session":"${this.session}","cut":${cut},"turns":[${turns.join(",")}]}`);
  }
}
