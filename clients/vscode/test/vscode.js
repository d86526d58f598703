/** As much of VS Code as the conversations need. Required before what requires `vscode`. */

const Module = require("node:module");

class EventEmitter {
  /** @type {Set<(value: any) => unknown>} */
  #listeners = new Set();
  event = (/** @type {(value: any) => unknown} */ listener) => {
    this.#listeners.add(listener);
    return { dispose: () => this.#listeners.delete(listener) };
  };
  fire(/** @type {any} */ value) {
    for (const listener of this.#listeners) listener(value);
  }
  dispose() {
    this.#listeners.clear();
  }
}

const l10n = { t: (/** @type {string} */ words, /** @type {any[]} */ ...given) => words.replace(/\{(\d)\}/g, (_, at) => given[at]) };
const vscode = { EventEmitter, l10n, window: { showWarningMessage: () => {} } };

/** @type {any} */
const loader = Module;
const load = loader._load;
loader._load = (/** @type {string} */ name, /** @type {any[]} */ ...rest) => (name === "vscode" ? vscode : load(name, ...rest));
