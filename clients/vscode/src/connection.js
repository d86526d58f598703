/** Where the relay answers, with which key, and whether it would. */

const vscode = require("vscode");
const { Lost, Refusal, json } = require("./refusal.js");
const { wordsOf, wordsOfLost } = require("./words.js");

const { l10n } = vscode;

/** Milliseconds between two looks, and that one may take. */
const PERIOD = 30_000;
const LIMIT = 10_000;

/** @typedef {"looking" | "ready" | "notReady" | "noRelay" | "needsKey"} Health */

class Connection {
  #secrets;
  #looks = 0;
  #changed = new vscode.EventEmitter();
  onChange = this.#changed.event;
  /** @type {Health} */
  health = "looking";
  words = l10n.t("Looking for the relay…");

  /** @param {vscode.ExtensionContext} context */
  constructor(context) {
    this.#secrets = context.secrets;
    const timer = setInterval(() => vscode.window.state.focused && this.look(), PERIOD);
    context.subscriptions.push(
      this.#changed,
      { dispose: () => clearInterval(timer) },
      vscode.window.onDidChangeWindowState(({ focused }) => focused && this.look()),
      vscode.workspace.onDidChangeConfiguration((change) => change.affectsConfiguration("anythingllmRelay") && this.look()),
      context.secrets.onDidChange(() => this.look()),
    );
  }

  /** The relay's address, without a slash at its end. Throws Refusal. */
  get url() {
    const set = vscode.workspace.getConfiguration("anythingllmRelay").get("url", "").trim();
    const url = set.replace(/\/+$/, "").replace(/\/(stream-ask|v1)$/, "");
    try {
      const { protocol, username, password, search, hash } = new URL(url);
      if (!["http:", "https:"].includes(protocol) || username || password || search || hash) throw new TypeError();
    } catch {
      throw new Refusal("bad_url", l10n.t("The setting anythingllmRelay.url is “{0}”.", set.replace(/\/\/.*@/, "//…@"))); // it is kept
    }
    return url;
  }

  get workspace() {
    return vscode.workspace.getConfiguration("anythingllmRelay").get("workspace", "").trim();
  }

  /**
   * Where to ask. A key goes only to the address that it was given for. Throws Refusal.
   * @returns {Promise<import("./stream.js").Relay>}
   */
  async relay() {
    const { url } = this;
    const key = await this.#secrets.get(name(url));
    return { url, headers: key ? { Authorization: `Bearer ${key}` } : {} };
  }

  async setKey() {
    const { url } = this;
    const key = await vscode.window.showInputBox({
      title: l10n.t("The relay’s key"),
      prompt: l10n.t("For {0}, and sent to no other address. It is kept in the editor’s secret storage.", new URL(url).origin),
      password: true,
      ignoreFocusOut: true,
      validateInput: (typed) =>
        /^[\x21-\x7e]*$/.test(typed.trim()) ? null : l10n.t("A key has letters, digits and signs of ASCII only, without blanks."),
    });
    if (key?.trim()) await this.#secrets.store(name(url), key.trim());
  }

  async forgetKey() {
    await this.#secrets.delete(name(this.url));
    vscode.window.showInformationMessage(l10n.t("The key for {0} is forgotten.", new URL(this.url).origin));
  }

  /** See whether the relay would answer. */
  async look() {
    const look = ++this.#looks;
    const [health, words] = await this.#ask();
    if (look !== this.#looks || (health === this.health && words === this.words)) return; // a later one knows better
    this.health = health;
    this.words = words;
    this.#changed.fire(undefined);
  }

  /** @returns {Promise<[Health, string]>} */
  async #ask() {
    let url = "";
    try {
      const relay = await this.relay();
      ({ url } = relay);
      const [ready, models] = await Promise.all([get(relay, "readyz"), get(relay, "v1/models")]);
      const [told, refused] = await Promise.all([json(ready), json(models)]); // a body that is not read keeps its connection
      if (models.status === 401) return ["needsKey", wordsOf("unauthorized")];
      if (!models.headers.get("Content-Type")?.startsWith("application/json")) return ["noRelay", wordsOf("no_relay")];
      if (!models.ok) {
        if (typeof refused?.error?.code !== "string") return ["noRelay", wordsOf("no_relay")];
        return ["notReady", `${wordsOf(refused.error.code)} ${refused.error.message}`];
      }
      if (ready.ok || typeof told?.code !== "string") return ["ready", l10n.t("AnythingLLM is ready.")]; // a proxy may keep it to itself
      return ["notReady", `${wordsOf(told.code)} ${told.error}`];
    } catch (error) {
      if (error instanceof Refusal) return ["noRelay", `${wordsOf(error.code)} ${error.message}`];
      return ["noRelay", error instanceof Lost ? wordsOfLost(url, error) : String(error)];
    }
  }
}

/** @param {string} url */
function name(url) {
  return `key:${new URL(url).origin}`;
}

/**
 * @param {import("./stream.js").Relay} relay
 * @param {string} path
 */
async function get({ url, headers }, path) {
  return await fetch(`${url}/${path}`, { headers, redirect: "error", signal: AbortSignal.timeout(LIMIT) }).catch((error) => {
    throw new Lost(error);
  });
}

module.exports = { Connection };
