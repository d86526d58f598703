// What a test in the editor begins with: a relay with the stand-in behind it, and a window that asks it.
'use strict';

const assert = require('node:assert/strict');
const { after, before, test } = require('node:test');
const { CHROMIUM, Editor } = require('./editor');
const { Line } = require('./line');
const { Relay } = require('./relay');

/**
 * @typedef {object} Scene
 * @property {Relay} relay
 * @property {Line} line between the extension and the relay
 * @property {import('./editor').Window} window
 */
/**
 * @typedef {object} Beginning
 * @property {Parameters<typeof Relay.start>[0]} [relay]
 * @property {Parameters<Editor['window']>[0]} [window]
 */

/**
 * Return a function that declares a test; all of one file share VS Code's server, and each has a window, a folder and
 * a relay of its own. What a test that failed saw is left among the pictures.
 * @returns {(name: string, beginning: Beginning, run: (scene: Scene) => Promise<void>) => void}
 */
function scenes() {
  /** @type {Editor} */
  let editor;
  const skip = CHROMIUM === undefined ? 'no Chromium is installed' : false;
  before(async () => {
    if (!skip) editor = await Editor.start();
  });
  after(async () => editor?.stop());
  return (name, beginning, run) => {
    void test(name, { skip }, async (t) => {
      const relay = await Relay.start(beginning.relay);
      t.after(() => relay.stop());
      const line = await Line.to(Number(new URL(relay.url).port));
      t.after(() => line.close());
      const { settings, ...rest } = beginning.window ?? {};
      const window = await editor.window({ settings: { 'anythingllmRelay.url': line.url, ...settings }, ...rest });
      t.after(() => window.close());
      try {
        await run({ relay, line, window });
        assert.deepEqual(window.wrong, []);
      } catch (error) {
        await window.look(`failed: ${name}`);
        throw error;
      }
    });
  };
}

module.exports = { scenes };
