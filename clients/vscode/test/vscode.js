/** As much of VS Code as the conversations need, with real files. Required before what requires `vscode`. */

const fs = require("node:fs/promises");
const Module = require("node:module");

class Uri {
  /** @param {string} path */
  constructor(path) {
    this.path = path;
  }

  /** @param {Uri} uri @param {string[]} more */
  static joinPath({ path }, ...more) {
    return new Uri([path, ...more].join("/"));
  }

  /** @param {{path: string}} change */
  with({ path }) {
    return new Uri(path);
  }
}

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

const files = {
  createDirectory: (/** @type {Uri} */ { path }) => fs.mkdir(path, { recursive: true }),
  readFile: (/** @type {Uri} */ { path }) => fs.readFile(path),
  writeFile: (/** @type {Uri} */ { path }, /** @type {Uint8Array} */ bytes) => fs.writeFile(path, bytes),
  rename: (/** @type {Uri} */ from, /** @type {Uri} */ to) => fs.rename(from.path, to.path),
  delete: (/** @type {Uri} */ { path }) => fs.rm(path),
  readDirectory: async (/** @type {Uri} */ { path }) => (await fs.readdir(path)).map((name) => [name, 1]),
  stat: async (/** @type {Uri} */ { path }) => ({ mtime: (await fs.stat(path)).mtimeMs }),
};

/** @type {string[]} what the user was warned of */
const warnings = [];
const l10n = { t: (/** @type {string} */ words, /** @type {any[]} */ ...given) => words.replace(/\{(\d)\}/g, (_, at) => given[at]) };
const vscode = { EventEmitter, Uri, l10n, window: { showWarningMessage: (/** @type {string} */ words) => warnings.push(words) }, workspace: { fs: files } };

/** @type {any} */
const loader = Module;
const load = loader._load;
loader._load = (/** @type {string} */ name, /** @type {any[]} */ ...rest) => (name === "vscode" ? vscode : load(name, ...rest));

module.exports = { Uri, warnings };
