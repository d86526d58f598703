/** The chat in the side bar: shows what the chat tells it, and tells what the user does. */

const vscode = require("vscode");
const { randomId, web } = require("./turn.js");
const { blocks } = require("./fences.js");
const { viewWords, wordsOf } = require("./words.js");

const { l10n } = vscode;

/** Milliseconds between two messages while text comes fast. */
const PACE = 30;

/**
 * @typedef {object} Actions what the view has done for it
 * @property {(code: string) => Promise<void>} insert
 * @property {(code: string, target: import("./turn.js").Target | null) => Promise<void>} apply
 * @property {(error: unknown) => unknown} report
 */

/** @implements {vscode.WebviewViewProvider} */
class ChatView {
  static id = "anythingllmRelay.chat";
  #root;
  #chat;
  #connection;
  #actions;
  /** @type {vscode.WebviewView | null} */
  #view = null;
  #ready = false;
  #focus = false;
  /** @type {Map<string, Required<Omit<import("./chat.js").Growth, "turn">>>} what is not told yet, by turn */
  #waiting = new Map();
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  #told = 0;

  /**
   * @param {vscode.ExtensionContext} context
   * @param {import("./chat.js").Chat} chat
   * @param {import("./connection.js").Connection} connection
   * @param {Actions} actions
   */
  constructor(context, chat, connection, actions) {
    this.#root = vscode.Uri.joinPath(context.extensionUri, "media");
    this.#chat = chat;
    this.#connection = connection;
    this.#actions = actions;
    context.subscriptions.push(
      chat.onGrow((growth) => this.#grow(growth)),
      chat.onSwitch(() => this.#show()),
      chat.onStart((turn) => this.#post({ type: "start", turn: shown(turn) })),
      connection.onChange(() => this.#status()),
      vscode.window.registerWebviewViewProvider(ChatView.id, this),
      { dispose: () => clearTimeout(this.#timer) },
    );
  }

  /** @param {vscode.WebviewView} view */
  resolveWebviewView(view) {
    this.#view = view;
    this.#ready = false;
    view.webview.options = { enableScripts: true, localResourceRoots: [this.#root] };
    view.webview.onDidReceiveMessage((message) => this.#take(message).catch(this.#actions.report));
    view.onDidDispose(() => {
      if (this.#view !== view) return;
      this.#view = null;
      this.#ready = false;
    });
    view.webview.html = this.#html(view.webview);
  }

  /** Bring the view forward, and the cursor into the question. */
  async focus() {
    this.#focus = true;
    await vscode.commands.executeCommand(`${ChatView.id}.focus`);
    this.#post({ type: "focus" });
  }

  /** @param {any} message of the view's script */
  async #take(message) {
    const { type, id, text, block } = message;
    if (type === "ready") this.#begin();
    else if (type === "ask" && typeof text === "string" && text.trim()) this.#chat.ask(text.trim(), text);
    else if (type === "stop") await this.#chat.stop();
    else if (type === "retry") this.#chat.retry(id);
    else if (type === "open" && web(text)) await vscode.env.openExternal(vscode.Uri.parse(text));
    else if (type === "command" && COMMANDS.includes(text)) await vscode.commands.executeCommand(`anythingllmRelay.${text}`);
    else await this.#code(type, id, block);
  }

  /**
   * Do something with a block of an answer, or with all of it.
   * @param {string} type
   * @param {string} id
   * @param {number | null} block
   */
  async #code(type, id, block) {
    const turn = this.#chat.find(id);
    if (!turn) return;
    const code = typeof block === "number" ? blocks(turn.pieces)[block]?.code : turn.kept.text;
    if (code === undefined) return;
    if (type === "copy") await vscode.env.clipboard.writeText(code);
    else if (type === "insert") await this.#actions.insert(code);
    else if (type === "apply") await this.#actions.apply(code, turn.kept.target);
  }

  #begin() {
    this.#ready = true;
    this.#show();
    this.#status();
    if (this.#focus) this.#post({ type: "focus" });
    this.#focus = false;
  }

  #show() {
    this.#waiting.clear();
    this.#post({ type: "show", turns: this.#chat.current.turns.map(shown), words: viewWords(), conversation: this.#chat.current.id });
  }

  #status() {
    const { health, words } = this.#connection;
    this.#post({ type: "status", health, words });
  }

  /** @param {import("./chat.js").Growth} growth */
  #grow({ turn, pieces = [], reasoning = "", more = false, lost }) {
    if (!this.#ready || !this.#chat.find(turn.kept.id)) return;
    const before = this.#waiting.get(turn.kept.id);
    this.#waiting.set(turn.kept.id, {
      pieces: [...(before?.pieces ?? []), ...pieces],
      reasoning: (before?.reasoning ?? "") + reasoning,
      more: more || (before?.more ?? false),
      lost: lost ?? before?.lost ?? 0,
    });
    // The first piece at once; those that follow closely are told together.
    this.#timer ??= setTimeout(() => this.#flush(), Math.max(0, this.#told + PACE - Date.now()));
  }

  #flush() {
    this.#timer = undefined;
    this.#told = Date.now();
    for (const [id, { pieces, reasoning, more, lost }] of this.#waiting) {
      const turn = this.#chat.find(id);
      if (turn) this.#post({ type: "grow", turn: { ...(more ? beside(turn) : {}), ...now(turn), pieces, reasoning }, lost });
    }
    this.#waiting.clear();
  }

  /** @param {unknown} message */
  #post(message) {
    if (this.#ready) this.#view?.webview.postMessage(message);
  }

  /** @param {vscode.Webview} webview */
  #html(webview) {
    const nonce = randomId();
    const file = (/** @type {string} */ name) => webview.asWebviewUri(vscode.Uri.joinPath(this.#root, name));
    const policy = `default-src 'none'; base-uri 'none'; form-action 'none'; style-src ${webview.cspSource}; script-src 'nonce-${nonce}'`;
    return `<!DOCTYPE html>
<html lang="${vscode.env.language}">
<head>
  <meta charset="utf-8">
  <meta http-equiv="Content-Security-Policy" content="${policy}">
  <link rel="stylesheet" href="${file("chat.css")}">
</head>
<body>
  <script nonce="${nonce}" src="${file("chat.js")}"></script>
</body>
</html>`;
  }
}

const COMMANDS = ["setKey", "howToStart", "newConversation", "look"];

/** @param {import("./turn.js").Turn} turn */
function shown(turn) {
  const { title, question, target, reasoning } = turn.kept;
  const asked = question.trim() === title ? "" : question;
  return { title, question: asked, target: target !== null, reasoning, pieces: turn.pieces, ...beside(turn), ...now(turn) };
}

/**
 * What comes beside the text.
 * @param {import("./turn.js").Turn} turn
 */
function beside(turn) {
  const { progress, outputs, sources, failure, seconds, tokens } = turn.kept;
  const took = seconds === undefined ? "" : l10n.t("{0} s", seconds.toFixed(1));
  const used = tokens === undefined ? "" : l10n.t("{0} tokens", tokens);
  return { progress, outputs, sources, note: [took, used].filter(Boolean).join(" · "), failure: failure && { ...failure, words: wordsOf(failure.code) } };
}

/** @param {import("./turn.js").Turn} turn */
function now(turn) {
  return { id: turn.kept.id, state: turn.kept.state, held: turn.held };
}

module.exports = { ChatView };
