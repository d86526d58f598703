// VS Code with the extension in it, driven as its user would: its server as a process, its window in Chromium.
'use strict';

const { execFile, spawn, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs/promises');
const os = require('node:os');
const path = require('node:path');
const { promisify } = require('node:util');
const { chromium } = require('playwright-core');
const { CACHE, codeServer } = require('./code-server');

const manifest = require('../package.json');
/** @type {Record<string, Record<string, string>>} */
const titles = { en: require('../package.nls.json'), 'zh-cn': require('../package.nls.zh-cn.json') };

/** The package that is tested: `npm run package` makes it. */
const VSIX = path.join(CACHE, 'anythingllm-relay.vsix');
/** Where pictures are left, to be looked at. */
const SCREENSHOTS = path.join(CACHE, 'screenshots');
/** How long anything may take, in ms: other processes share the machine. */
const PATIENCE = 60_000;

/** How long something may take that is tried again. */
const SOON = 5_000;

const CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome']
  .map((name) => spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim())
  .find((found) => found !== '');

const SETTINGS = {
  'workbench.startupEditor': 'none',
  'workbench.tips.enabled': false,
  'workbench.enableExperiments': false,
  'workbench.layoutControl.enabled': false,
  'workbench.colorTheme': 'Default Dark Modern',
  'security.workspace.trust.enabled': false,
  'telemetry.telemetryLevel': 'off',
  'extensions.autoCheckUpdates': false,
  'extensions.autoUpdate': false,
  'extensions.ignoreRecommendations': true,
  'chat.commandCenter.enabled': false,
  'git.enabled': false,
  'remote.autoForwardPorts': false,
  'editor.minimap.enabled': false,
  // A suggestion that pops up would take the keys that a test presses.
  'editor.quickSuggestions': { other: 'off', comments: 'off', strings: 'off' },
  'editor.inlineSuggest.enabled': false,
  'files.autoSave': 'off',
};

/** VS Code's server, and a browser. */
class Editor {
  /**
   * @param {string} folder what the server writes
   * @param {string} url
   * @param {import('node:child_process').ChildProcess} server
   * @param {import('playwright-core').Browser} browser
   */
  constructor(folder, url, server, browser) {
    this.folder = folder;
    this.url = url;
    this.server = server;
    this.browser = browser;
  }

  static async start() {
    const program = await codeServer();
    const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'vscode-'));
    const where = [
      '--server-data-dir',
      path.join(folder, 'data'),
      '--extensions-dir',
      path.join(folder, 'extensions'),
      '--accept-server-license-terms',
    ];
    await promisify(execFile)(process.execPath, [program, ...where, '--install-extension', VSIX]);
    const server = spawn(
      process.execPath,
      [program, ...where, '--host', '127.0.0.1', '--port', '0', '--without-connection-token'],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const end = () => server.kill();
    process.once('exit', end);
    server.once('exit', () => process.off('exit', end));
    const url = await announced(server);
    const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
    const browser = await chromium.launch({ executablePath: CHROMIUM, args });
    return new Editor(folder, url, server, browser);
  }

  /**
   * Open a window of its own on a new folder.
   * @param {{files?: Record<string, string>, open?: string, settings?: object, size?: object, language?: string}} [options] the
   *   folder's files, the one that is opened, the user's settings, the language of the extension
   * @returns {Promise<Window>}
   */
  async window({ files = {}, open, settings = {}, size = { width: 1280, height: 800 }, language = 'en' } = {}) {
    const folder = path.join(await fs.mkdtemp(path.join(this.folder, 'of-a-test-')), 'project');
    await fs.mkdir(folder);
    for (const [name, text] of Object.entries(files)) {
      await fs.mkdir(path.dirname(path.join(folder, name)), { recursive: true });
      await fs.writeFile(path.join(folder, name), text);
    }
    // What a machine has of its own is read from the second place.
    for (const place of ['User', 'Machine']) {
      const file = path.join(this.folder, 'data', 'data', place, 'settings.json');
      await fs.mkdir(path.dirname(file), { recursive: true });
      await fs.writeFile(file, JSON.stringify({ ...SETTINGS, ...settings }));
    }
    const context = await this.browser.newContext({ viewport: /** @type {any} */ (size) });
    context.setDefaultTimeout(PATIENCE);
    await context.route(
      (url) => url.hostname !== '127.0.0.1' && url.protocol.startsWith('http'),
      (route) => route.abort(),
    );
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    // As a language pack sets it; the editor's own words stay English without one.
    await context.addInitScript(`globalThis._VSCODE_NLS_LANGUAGE = ${JSON.stringify(language)}`);
    const window = new Window(await context.newPage(), folder, titles[language]);
    const address = new URL(this.url);
    address.searchParams.set('folder', folder);
    if (open !== undefined) {
      const file = `vscode-remote://${address.host}${path.join(folder, open)}`;
      address.searchParams.set('payload', JSON.stringify([['openFile', file]]));
    }
    await window.page.goto(address.href);
    await window.ready();
    if (open !== undefined) await window.page.locator('.editor-instance .view-lines').first().waitFor();
    return window;
  }

  async stop() {
    await this.browser.close();
    if (this.server.kill('SIGTERM')) await once(this.server, 'exit');
    await fs.rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** A window of VS Code. */
class Window {
  /** @type {string[]} What no extension should do: policies that are violated, scripts that fail. */
  wrong = [];

  /**
   * @param {import('playwright-core').Page} page
   * @param {string} folder
   * @param {Record<string, string>} titles of commands
   */
  constructor(page, folder, titles) {
    this.page = page;
    this.folder = folder;
    this.titles = titles;
    page.on('console', (message) => {
      const { url } = message.location();
      if (message.type() === 'error' && /fake\.html|vscode-resource/.test(url)) this.wrong.push(message.text());
    });
  }

  /** Wait until the extension is there. */
  async ready() {
    await this.page.locator('.monaco-workbench').waitFor();
    await this.page.locator(`.activitybar a[aria-label^="${manifest.displayName}"]`).waitFor();
  }

  /** What is in the chat view. */
  get chat() {
    return this.webview(`${manifest.publisher}.${manifest.name}`);
  }

  /**
   * What an extension shows in a view of its own.
   * @param {string} extension
   */
  webview(extension) {
    const outer = this.page.frameLocator(`iframe.webview[src*="extensionId=${extension}"]`);
    return outer.frameLocator('iframe#active-frame');
  }

  get answers() {
    return this.chat.locator('article.answer');
  }

  /** The newest answer. */
  get answer() {
    return this.answers.last();
  }

  /** @param {string} question */
  async ask(question) {
    await this.run('anythingllmRelay.ask');
    const before = await this.answers.count();
    await this.chat.locator('#question').fill(question);
    await this.chat.locator('#question').press('Enter');
    await this.answers.nth(before).waitFor();
  }

  /** The text of the newest answer, exactly. */
  async text() {
    return this.answer.locator('.text').evaluate((element) => element.textContent ?? '');
  }

  /**
   * Wait until the newest answer has this text in it.
   * @param {string} text
   */
  async shows(text) {
    await until(async () => (await this.text()).includes(text), `${JSON.stringify(text)} in the answer`);
  }

  /**
   * Wait until the newest answer has this state.
   * @param {'running' | 'complete' | 'failed' | 'stopped'} state
   */
  async is(state) {
    await this.answer.and(this.chat.locator(`[data-state=${state}]`)).waitFor();
  }

  /**
   * Run a command of the extension from the command palette.
   * @param {string} id
   */
  async run(id) {
    const command = manifest.contributes.commands.find((one) => one.command === id);
    if (command === undefined) throw new Error(`the extension has no command ${id}`);
    const { category, title: name } = /** @type {{category?: string, title: string}} */ (command);
    const title = this.titles[name.replaceAll('%', '')];
    await this.palette(category ? `${category}: ${title}` : title);
  }

  /**
   * Choose in the command palette.
   * @param {string} title
   */
  async palette(title) {
    const widget = this.page.locator('.quick-input-widget');
    const named = this.page.getByText(title, { exact: true });
    const row = widget.locator('.monaco-list-row').filter({ has: named }).first();
    // Whatever takes the focus meanwhile closes the palette.
    const chosen = async () => {
      await this.page.keyboard.press('F1');
      await widget.locator('input').fill(`>${title}`, { timeout: SOON });
      await row.click({ timeout: SOON });
      return true;
    };
    await until(() => chosen().catch(() => false), `the command ${title}`);
  }

  /** The editor that is worked in; of a diff its right side. */
  get editor() {
    return this.page.locator('.editor-instance .monaco-editor:not(.original-in-monaco-diff-editor)').last();
  }

  /** What is to be read in it. */
  async shown() {
    const lines = await this.editor
      .locator('.view-line')
      .evaluateAll((found) =>
        found
          .map((line) => ({ top: line.getBoundingClientRect().top, text: line.textContent ?? '' }))
          .sort((one, other) => one.top - other.top)
          .map((line) => line.text),
      );
    return lines.join('\n').replaceAll('\u00a0', ' ');
  }

  /** The diff that shows a proposed change. */
  get diff() {
    return this.page.locator('.monaco-diff-editor');
  }

  /** Put the cursor into the editor. */
  async focus() {
    await this.editor.locator('.view-line').first().click();
  }

  /** Save the file that is worked in. */
  async save() {
    await this.palette('File: Save');
    await this.page.locator('.tab.active.dirty').waitFor({ state: 'detached' });
  }

  /**
   * Save, and wait until the file is so.
   * @param {string} name
   * @param {string} text
   */
  async saved(name, text) {
    await this.save();
    await until(async () => (await this.file(name)) === text, `${name} to be ${JSON.stringify(text)}`);
  }

  /** As "Developer: Reload Window" does. */
  async reload() {
    await this.page.reload();
    await this.ready();
  }

  async close() {
    await this.page.context().close();
  }

  /**
   * A file as it is on disk.
   * @param {string} name
   */
  async file(name) {
    return fs.readFile(path.join(this.folder, name), 'utf8');
  }

  /** @param {string} name */
  async look(name) {
    await fs.mkdir(SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });
  }
}

/** @param {import('node:child_process').ChildProcess} server @returns {Promise<string>} */
async function announced(server) {
  let heard = '';
  server.stderr?.on('data', (bytes) => (heard += bytes));
  return new Promise((resolve, reject) => {
    server.once('exit', () => reject(new Error(`VS Code's server ended:\n${heard}`)));
    server.stdout?.on('data', (bytes) => {
      heard += bytes;
      const found = /Web UI available at (\S+)/.exec(heard);
      if (found !== null) resolve(found[1].replace('localhost', '127.0.0.1'));
    });
  });
}

/**
 * Wait until something is so.
 * @param {() => Promise<boolean> | boolean} is
 * @param {string} what
 */
async function until(is, what) {
  const end = Date.now() + PATIENCE;
  while (!(await is())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

module.exports = { CHROMIUM, Editor, SCREENSHOTS, Window, until };
