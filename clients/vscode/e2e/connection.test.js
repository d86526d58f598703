// What stands between the editor and an answer: a relay that is not there, keys, lost connections, reloaded windows.
'use strict';

const assert = require('node:assert/strict');
const { scenes } = require('./scene');
const { until } = require('./editor');

const scene = scenes();

const KEY = 'key-of-an-editor';

/** @param {number} number */
const counted = (number) => Array.from({ length: number }, (_, n) => `tok${n + 1}`).join(' ');

scene(
  'a relay that is not there is told in clear words, with what starts it',
  { window: { settings: { 'anythingllmRelay.url': 'http://127.0.0.1:47113' } } },
  async ({ window }) => {
    await window.ask('Hello');
    await window.is('failed');
    const words = await window.answer.locator('.error').innerText();
    assert.match(words, /127\.0\.0\.1:47113/);
    assert.doesNotMatch(words, /fetch failed|ECONNREFUSED$/);
    await window.look('not-there');
    await window.run('anythingllmRelay.howToStart');
    const help = window.webview('vscode.markdown-language-features');
    await help.getByText('make demo').waitFor();
    await window.look('how-to-start');
  },
);

scene('a relay that wants a key gets it from the secrets', { relay: { key: KEY } }, async ({ relay, window }) => {
  await window.ask('!echo open');
  await window.is('failed');
  assert.equal(await window.answer.locator('.error .code').innerText(), 'unauthorized');
  await window.look('key-needed');
  await window.run('anythingllmRelay.setKey');
  await window.page.locator('.quick-input-title').getByText('The relay’s key').waitFor();
  await window.page.locator('.quick-input-widget input[type=password]').pressSequentially(KEY);
  await window.page.keyboard.press('Enter');
  await window.chat.locator('#status').getByText('ready').waitFor();
  await window.ask('!echo open');
  await window.is('complete');
  assert.equal(await window.text(), 'open');
  await window.run('anythingllmRelay.forgetKey');
  await window.ask('!echo open');
  await window.is('failed');
  assert.equal(relay.asked, 1);
});

// At the beginning the extension has not kept any of the answer, and later it has.
for (const reloads of [['tok3 '], ['tok80 ', 'tok200 ']]) {
  scene(`a window that is reloaded after ${reloads.join('and ')}goes on, and asks once`, {}, async ({ relay, window }) => {
    await window.ask('!tokens=400 !slow=0.05');
    for (const seen of reloads) {
      await window.shows(seen);
      await window.reload();
      await window.is('running');
    }
    await window.look('reloaded');
    await window.is('complete');
    assert.equal(await window.text(), counted(400));
    assert.equal(await window.answers.count(), 1);
    assert.equal(relay.asked, 1);
  });
}

scene('what was said is there after a reload', {}, async ({ relay, window }) => {
  await window.ask('!tokens=5');
  await window.is('complete');
  await window.reload();
  await window.is('complete');
  assert.equal(await window.text(), counted(5));
  assert.equal(relay.asked, 1);
});

scene('a connection that is lost again and again loses and repeats nothing', {}, async ({ line, relay, window }) => {
  await window.ask('!tokens=400 !slow=0.02');
  for (const token of ['tok20 ', 'tok80 ', 'tok160 ']) {
    await window.shows(token);
    line.cut();
    line.mend();
  }
  await window.is('complete');
  assert.equal(await window.text(), counted(400));
  assert.equal(relay.asked, 1);
});

scene('a line that is gone for a while is waited for', {}, async ({ line, relay, window }) => {
  await window.ask('!tokens=100 !slow=0.02');
  await window.shows('tok20 ');
  line.cut();
  const ended = async () => (await relay.counted('relay_streams_total{outcome="complete"}')) === 1;
  await until(ended, 'the answer to end without its reader');
  await window.is('running');
  await window.look('waiting');
  line.mend();
  await window.is('complete');
  assert.equal(await window.text(), counted(100));
  assert.equal(relay.asked, 1);
});
