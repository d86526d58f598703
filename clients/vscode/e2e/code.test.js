// Commands on code: what they ask, how a change is shown, accepted, rejected and undone.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { scenes } = require('./scene');
const { until } = require('./editor');

const scene = scenes();

const BROKEN = 'for i in range(3)\n    print(i)\n';
const MENDED = 'for i in range(3):\n    print(i)\n';
const python = { window: { files: { 'broken.py': BROKEN }, open: 'broken.py' } };

/** @param {import('./scene').Scene} scene */
async function fixAll({ window }) {
  await window.focus();
  await window.page.keyboard.press('Control+A');
  await window.run('anythingllmRelay.fix');
  await window.diff.waitFor();
  await until(async () => (await window.shown()).includes('range(3):'), 'the proposal');
}

scene('a fix is shown as a diff, accepted, and undone in one step', python, async (given) => {
  const { window } = given;
  await fixAll(given);
  await window.look('fix');
  await window.run('anythingllmRelay.acceptChange');
  await window.diff.waitFor({ state: 'detached' });
  await window.saved('broken.py', MENDED);
  await window.look('fixed');
  await window.focus();
  await window.page.keyboard.press('Control+Z');
  await window.saved('broken.py', BROKEN);
});

scene('a fix that is rejected changes nothing', python, async (given) => {
  const { window } = given;
  await fixAll(given);
  await window.run('anythingllmRelay.rejectChange');
  await window.diff.waitFor({ state: 'detached' });
  assert.equal(await window.shown(), BROKEN);
  assert.equal(await window.file('broken.py'), BROKEN);
});

scene(
  'a problem has a quick fix, which tells the model what it is',
  { window: { files: { 'bad.json': '{\n  "one": 1,,\n  "two": 2\n}\n' }, open: 'bad.json' } },
  async ({ line, window }) => {
    await window.page.locator('.squiggly-error').first().waitFor();
    await window.focus();
    await window.page.keyboard.press('F8'); // to the problem
    await window.page.keyboard.press('Escape');
    const action = window.page.locator('.action-widget .monaco-list-row.focused');
    const ours = action.filter({ hasText: 'Fix with AnythingLLM: Property expected' });
    // The problem may be told before the extension is there.
    const none = window.page.locator('.message').filter({ hasText: 'No code actions available' });
    for (let tries = 0; tries < 20 && !(await ours.isVisible()); tries++) {
      await window.page.keyboard.press('Control+.');
      await ours.or(none).first().waitFor();
      if (await none.isVisible()) await window.page.keyboard.press('Escape');
    }
    await ours.waitFor();
    await window.look('quick-fix');
    await window.page.keyboard.press('Enter'); // the first one has the focus
    await until(() => line.said.includes('/stream-ask'), 'the question');
    await window.diff.waitFor();
    const asked = line.said.slice(line.said.indexOf('/stream-ask'));
    assert.match(asked, /Property expected/i);
    assert.match(asked, /line 2/i);
    assert.match(asked, /one/);
    await window.run('anythingllmRelay.rejectChange');
  },
);

scene('code is explained in the chat', python, async ({ line, window }) => {
  await window.focus();
  await window.page.keyboard.press('Control+A');
  await window.run('anythingllmRelay.explain');
  await window.is('complete');
  assert.match(line.said, /for i in range\(3\)/);
  await window.look('explain');
});

scene(
  'text is written into the editor while it arrives, and goes in one undo',
  { window: { files: { 'new.py': '# !tokens=100 !slow=0.05\n' }, open: 'new.py' } },
  async ({ window }) => {
    await window.focus();
    await window.page.keyboard.press('Control+Home');
    await window.page.keyboard.press('End');
    await window.run('anythingllmRelay.generate');
    await until(async () => (await window.shown()).includes('tok10'), 'the first text in the editor');
    assert.doesNotMatch(await window.shown(), /tok100/);
    await window.look('generating');
    await until(async () => (await window.shown()).includes('tok100'), 'the last text in the editor');
    await window.save();
    assert.equal((await window.file('new.py')).match(/tok\d+/g)?.length, 100);
    await window.focus();
    await window.page.keyboard.press('Control+Z');
    await window.saved('new.py', '# !tokens=100 !slow=0.05\n');
  },
);

scene('Escape stops the text that is written into the editor', {
  window: { files: { 'new.py': '# !endless !slow=0.05\n' }, open: 'new.py' },
}, async ({ relay, window }) => {
  await window.focus();
  await window.run('anythingllmRelay.generate');
  await until(async () => (await window.shown()).includes('tok5'), 'the first text in the editor');
  const closed = once(relay.upstream, 'closed');
  await window.page.keyboard.press('Escape');
  await closed;
  await until(async () => (await relay.counted('relay_streams_active')) === 0, 'no stream');
});

scene('what a program said is fixed, from the clipboard', python, async ({ line, window }) => {
  const said = 'Traceback (most recent call last):\n  File "broken.py", line 1\n    for i in range(3)\nSyntaxError: expected \':\'';
  await window.focus();
  await window.page.evaluate((text) => navigator.clipboard.writeText(text), said);
  await window.run('anythingllmRelay.fixOutput');
  await window.diff.waitFor();
  assert.match(line.said, /SyntaxError: expected/);
  await window.run('anythingllmRelay.acceptChange');
  await window.diff.waitFor({ state: 'detached' });
  await window.saved('broken.py', MENDED);
});
