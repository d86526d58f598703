/** The conversations of this window: asked, followed to their ends, and kept. */

const vscode = require("vscode");
const { Conversation, Conversations } = require("./conversations.js");
const { AnswerStream } = require("./stream.js");
const { Turn } = require("./turn.js");
const { failureOf } = require("./words.js");

/** Milliseconds between two times that a running answer is kept. */
const KEEP = 1_000;
/** Milliseconds in which a relay surely knows a question by its key; later it would ask it anew. */
const STILL_KNOWN = 45_000;

/**
 * What came to a turn: of its text, of its reasoning, and whether there is `more` than those.
 * @typedef {{turn: Turn, pieces?: import("./fences.js").Piece[], reasoning?: string, more?: boolean, lost?: number}} Growth
 */

class Chat {
  #connection;
  #conversations;
  /** @type {Map<Turn, AnswerStream>} */
  #streams = new Map();
  /** @type {Map<Turn, Conversation>} those whose answers are on their way */
  #homes = new Map();
  #grown = new vscode.EventEmitter();
  #switched = new vscode.EventEmitter();
  #ended = new vscode.EventEmitter();
  #started = new vscode.EventEmitter();
  /** @type {vscode.Event<Growth>} */
  onGrow = this.#grown.event;
  /** @type {vscode.Event<void>} another conversation is shown */
  onSwitch = this.#switched.event;
  /** @type {vscode.Event<Turn>} */
  onStart = this.#started.event;
  /** @type {vscode.Event<Turn>} */
  onEnd = this.#ended.event;
  current = new Conversation();

  /**
   * @param {vscode.ExtensionContext} context
   * @param {import("./connection.js").Connection} connection
   */
  constructor(context, connection) {
    this.#connection = connection;
    this.#conversations = new Conversations((context.storageUri ?? context.globalStorageUri).fsPath);
    context.subscriptions.push(this.#grown, this.#switched, this.#started, this.#ended);
  }

  /** Go on with the conversation that the window had. */
  async restore() {
    const found = await this.#conversations.current();
    if (found && !this.current.turns.length) this.#show(found); // the user may have been faster
    await this.#conversations.prune();
  }

  /** @param {string} id */
  async open(id) {
    const found = this.#running(id) ?? (await this.#conversations.load(id));
    if (found) this.#show(found);
  }

  /**
   * Show a conversation, and follow what of it is still on its way.
   * @param {Conversation} conversation
   */
  #show(conversation) {
    this.current = conversation;
    this.#conversations.setCurrent(conversation.id);
    this.#switched.fire(undefined);
    for (const turn of conversation.turns) {
      if (!turn.running || this.#homes.has(turn)) continue;
      const { place, time } = turn.kept;
      if (place.id || Date.now() - time < STILL_KNOWN) this.#follow(conversation, turn);
      else this.#end(turn, "failed", { code: "connection_lost", message: "", retryable: true });
    }
  }

  begin() {
    if (this.current.turns.length) this.#show(new Conversation());
  }

  /**
   * Ask in the conversation that is shown, or in a new one where an answer is still on its way.
   * @param {string} title
   * @param {string} question
   * @param {import("./turn.js").Target | null} target
   */
  ask(title, question, target = null) {
    if (this.current.running) this.begin();
    const turn = Turn.asked(title, question, target);
    this.current.turns.push(turn);
    this.#started.fire(turn);
    this.#conversations.setCurrent(this.current.id);
    this.#follow(this.current, turn);
    return turn;
  }

  /** @param {string} id of a turn that has ended */
  retry(id) {
    const turn = this.find(id);
    if (turn && !this.current.running) this.ask(turn.kept.title, turn.kept.question, turn.kept.target);
  }

  /** Stop the answers of the conversation that is shown. */
  async stop() {
    await Promise.all(this.current.turns.map((turn) => this.#stop(turn)));
  }

  /** @param {string} id */
  find(id) {
    return this.current.turns.find((turn) => turn.kept.id === id);
  }

  /** The conversations that are kept, the newest first. */
  async history() {
    const list = await this.#conversations.list();
    const loaded = await Promise.all(list.map(async ({ id, time }) => ({ time, found: await this.#conversations.load(id) })));
    return loaded.flatMap(({ time, found }) => (found?.title ? [{ id: found.id, title: found.title, turns: found.turns.length, time }] : []));
  }

  /** @param {string} id */
  async remove(id) {
    const running = this.#running(id);
    if (running) await Promise.all(running.turns.map((turn) => this.#stop(turn)));
    if (id === this.current.id) this.begin();
    await this.#conversations.remove(id);
  }

  /** Leave the answers to the next window. */
  async leave() {
    const turns = [...this.#streams];
    this.#streams.clear();
    for (const [, stream] of turns) stream.leave();
    if (this.current.turns.length) await this.#conversations.save(this.current);
  }

  /** @param {string} id */
  #running(id) {
    return [...this.#homes.values()].find((conversation) => conversation.id === id);
  }

  /** @param {Turn} turn */
  async #stop(turn) {
    if (!turn.running) return;
    this.#end(turn, "stopped");
    await this.#streams.get(turn)?.stop().catch(() => {
      vscode.window.showWarningMessage(
        vscode.l10n.t("The relay could not be told to stop. It stops by itself when nobody has read the answer for a while."),
      );
    });
  }

  /**
   * @param {Conversation} conversation
   * @param {Turn} turn
   */
  async #follow(conversation, turn) {
    this.#homes.set(turn, conversation);
    let kept = "";
    const keeping = setInterval(() => {
      const { id, after } = turn.kept.place;
      if (kept !== `${id} ${after}`) this.#conversations.save(conversation);
      kept = `${id} ${after}`;
    }, KEEP);
    try {
      await this.#read(turn, conversation);
    } catch (error) {
      if (turn.running) this.#end(turn, "failed", failureOf(error));
    } finally {
      clearInterval(keeping);
      this.#streams.delete(turn);
      this.#homes.delete(turn);
      await this.#conversations.save(conversation);
    }
  }

  /**
   * @param {Turn} turn
   * @param {Conversation} conversation
   */
  async #read(turn, conversation) {
    const { kept } = turn;
    const relay = await this.#connection.relay();
    if (!turn.running) return; // stopped already
    const fields = {
      question: kept.question,
      session_id: conversation.id,
      reasoning: "separate",
      ...(this.#connection.workspace && { workspace: this.#connection.workspace }),
    };
    const stream = new AnswerStream(kept.place, fields, relay, (lost) => {
      this.#grown.fire({ turn, lost });
      this.#conversations.save(conversation); // the stream's id, above all
    });
    this.#streams.set(turn, stream);
    await this.#conversations.save(conversation); // before it is sent: a window that reloads asks with the same key
    for await (const events of stream.events()) {
      if (!turn.running) return;
      const reasoned = kept.reasoning.length;
      const pieces = events.flatMap((told) => turn.add(told));
      const more = events.some(({ type }) => type !== "chunk" && type !== "reasoning");
      this.#grown.fire({ turn, pieces, reasoning: kept.reasoning.slice(reasoned), more });
      if (!turn.running) this.#done(turn);
      if (turn.running && turn.overflows) {
        this.#end(turn, "failed", { code: "too_long", message: "", retryable: false });
        await stream.stop();
      }
    }
  }

  /**
   * @param {Turn} turn
   * @param {import("./turn.js").State} state
   * @param {import("./turn.js").Failure | null} failed
   */
  #end(turn, state, failed = null) {
    this.#grown.fire({ turn, pieces: turn.end(state, failed), more: true });
    this.#done(turn);
  }

  /** @param {Turn} turn */
  #done(turn) {
    this.#ended.fire(turn);
    if (turn.kept.failure) this.#connection.look();
  }
}

module.exports = { Chat };
