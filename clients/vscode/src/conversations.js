/** What was asked before, kept in files of the extension's own beside the workspace's. */

// Not vscode.workspace.fs: to put one file in the place of another, that deletes the other first.
const fs = require("node:fs/promises");
const path = require("node:path");
const { Turn, randomId } = require("./turn.js");

/** Conversations that are kept, and characters of each: the newest. */
const MOST = 50;
const MOST_CHARACTERS = 3_000_000;
const ID = /^[0-9a-f]{32}$/;

/** A conversation; AnythingLLM knows it by its id too. */
class Conversation {
  /**
   * @param {string} id
   * @param {Turn[]} turns
   */
  constructor(id = randomId(), turns = []) {
    this.id = id;
    this.turns = turns;
  }

  get title() {
    return this.turns[0]?.kept.title ?? "";
  }

  get running() {
    return this.turns.some((turn) => turn.running);
  }
}

class Conversations {
  #folder;
  #current;
  /** @type {Map<string, Promise<void>>} the writes of each, one after the other */
  #writes = new Map();
  /** @type {Set<string>} what is gone, and is not written again by an answer that still ends */
  #removed = new Set();

  /** @param {string} storage the path of a folder */
  constructor(storage) {
    this.#folder = path.join(storage, "conversations");
    // Not in the workspace's state: a browser writes that seconds later, and a window may be reloaded before.
    this.#current = path.join(storage, "current");
  }

  /** The conversation that a window of this workspace showed last. */
  async current() {
    return this.load(await fs.readFile(this.#current, "utf8").catch(() => ""));
  }

  /** @param {string} id */
  async setCurrent(id) {
    await this.#inTurn("current", () => this.#replace(this.#current, id));
  }

  /**
   * @param {string} id
   * @returns {Promise<Conversation | null>}
   */
  async load(id) {
    const turns = ID.test(id) ? await this.#read(id) : [];
    return turns.length ? new Conversation(id, turns.map((kept) => new Turn(kept))) : null;
  }

  /** @param {Conversation} conversation */
  async save(conversation) {
    await this.#inTurn(conversation.id, async () => {
      if (!this.#removed.has(conversation.id)) await this.#write(conversation);
    });
  }

  /** @param {string} id */
  async remove(id) {
    this.#removed.add(id);
    await this.#writes.get(id);
    await fs.rm(this.#file(id), { force: true });
  }

  /** The newest first. */
  async list() {
    const names = await fs.readdir(this.#folder).catch(() => []);
    const ids = names.map((name) => name.replace(/\.json$/, "")).filter((id) => ID.test(id));
    const stats = await Promise.all(
      ids.map(async (id) => ({ id, time: await fs.stat(this.#file(id)).then(({ mtimeMs }) => mtimeMs, () => 0) })),
    );
    return stats.sort((one, other) => other.time - one.time);
  }

  /** Let the oldest go. */
  async prune() {
    for (const { id } of (await this.list()).slice(MOST)) await this.remove(id);
  }

  /**
   * @param {string} id
   * @returns {Promise<import("./turn.js").Kept[]>}
   */
  async #read(id) {
    try {
      return JSON.parse(await fs.readFile(this.#file(id), "utf8")).turns;
    } catch {
      return []; // there is none, or it cannot be read
    }
  }

  /** @param {Conversation} conversation */
  async #write({ id, turns }) {
    const own = turns.map((turn) => turn.kept);
    const ids = new Set(own.map((one) => one.id));
    const others = (await this.#read(id)).filter((one) => !ids.has(one.id)); // another window's
    const all = [...own, ...others].sort((one, other) => one.time - other.time);
    /** @type {string[]} */
    const kept = [];
    let room = MOST_CHARACTERS;
    for (const one of all.reverse()) {
      const json = JSON.stringify(one);
      room -= json.length;
      if (room < 0 && kept.length) break;
      kept.unshift(json);
    }
    await this.#replace(this.#file(id), `{"turns":[${kept.join(",")}]}`);
  }

  /**
   * @param {string} file
   * @param {string} whole
   */
  async #replace(file, whole) {
    const beside = `${file}.${process.pid}.new`; // another window may write too
    try {
      await fs.mkdir(this.#folder, { recursive: true });
      await fs.writeFile(beside, whole);
      await fs.rename(beside, file); // whoever reads finds the last one whole, or this one
    } catch (error) {
      console.warn("AnythingLLM Relay: a conversation could not be kept:", error);
    }
  }

  /**
   * Write after what is being written there.
   * @param {string} what
   * @param {() => Promise<void>} write
   */
  async #inTurn(what, write) {
    const written = (this.#writes.get(what) ?? Promise.resolve()).then(write);
    this.#writes.set(what, written);
    await written;
    if (this.#writes.get(what) === written) this.#writes.delete(what);
  }

  /** @param {string} id */
  #file(id) {
    return path.join(this.#folder, `${id}.json`);
  }
}

module.exports = { Conversation, Conversations };
