// What goes otherwise than one would wish: documents of odd kinds, or that change meanwhile; a relay with no room.
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
async function proposed({ window }) {
  await window.focus();
  await window.run('anythingllmRelay.fix');
  await window.diff.waitFor();
  await until(async () => (await window.shown()).includes('range(3):'), 'the proposal');
}

scene('Stop before the relay has said a word reaches it all the same', {}, async ({ line, relay, window }) => {
  await window.ask('!tokens=1');
  await window.is('complete');
  line.hold();
  await window.ask('!endless !slow=0.05');
  await until(() => relay.asked === 2, 'the question to arrive');
  const closed = once(relay.upstream, 'closed');
  await window.chat.locator('#stop').click();
  await window.is('stopped');
  line.release();
  await closed;
  await until(async () => (await relay.counted('relay_streams_active')) === 0, 'no stream');
});

scene(
  'a relay that has no room to hold answers is asked for them all the same',
  { relay: { settings: { RELAY_RESUME_TOTAL_BYTES: '16384' } } },
  async ({ relay, window }) => {
    const body = JSON.stringify({ question: '!endless !slow=3600', resumable: true });
    const full = new AbortController();
    const fill = () =>
      fetch(`${relay.url}/stream-ask`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body, signal: full.signal });
    let before = 0;
    while ((await fill()).ok) before++;
    await until(() => relay.asked === before, 'all that fills it');
    await window.ask('!tokens=20');
    await window.is('complete');
    assert.match(await window.text(), /tok20$/);
    await window.ask('!tokens=6 !pause=3600');
    await window.shows('tok3');
    const closed = once(relay.upstream, 'closed');
    await window.chat.locator('#stop').click();
    await closed;
    await window.ask('!tokens=6 !pause=3600');
    await window.shows('tok3');
    await window.reload();
    await window.is('failed');
    assert.equal(await window.answer.locator('.error .code').innerText(), 'connection_lost');
    await window.look('no-room');
    assert.equal(relay.asked, before + 3);
    full.abort();
  },
);

scene('an answer goes on while its view is hidden', {}, async ({ relay, window }) => {
  await window.ask('!tokens=150 !slow=0.02');
  await window.shows('tok5 ');
  await window.palette('View: Show Explorer');
  await window.page.locator('.explorer-folders-view').waitFor();
  await until(async () => (await relay.counted('relay_streams_total{outcome="complete"}')) === 1, 'the end');
  await window.run('anythingllmRelay.ask');
  await window.is('complete');
  assert.equal((await window.text()).split(' ').length, 150);
});

scene('output that names an address last is no trouble', python, async ({ line, window }) => {
  const said = 'File "broken.py", line 1\nSyntaxError: expected \':\'\nserving at http://localhost:8000';
  await window.focus();
  await window.page.evaluate((text) => navigator.clipboard.writeText(text), said);
  await window.run('anythingllmRelay.fixOutput');
  await window.diff.waitFor();
  assert.match(line.said, /SyntaxError: expected/);
  await window.run('anythingllmRelay.rejectChange');
});

scene('a change is accepted after its document was edited elsewhere, and after its diff was moved', python, async (given) => {
  const { window } = given;
  await proposed(given);
  await window.palette('View: Move Editor into Next Group');
  await window.page.locator('.editor-group-container').nth(1).waitFor();
  await window.palette('View: Focus First Editor Group');
  await window.page.locator('.editor-group-container').first().locator('.view-line').first().click();
  await window.page.keyboard.press('Control+Home');
  await window.page.keyboard.type('# new\n');
  await until(async () => (await window.diff.innerText()).includes('new'), 'the diff with the edit');
  await window.run('anythingllmRelay.acceptChange');
  await window.diff.waitFor({ state: 'detached' });
  await window.saved('broken.py', `# new\n${MENDED}`);
});

scene('a change whose place is gone is not made', python, async (given) => {
  const { window } = given;
  await proposed(given);
  await window.page.locator('.tab', { hasText: /^broken\.py$/ }).click();
  await window.focus();
  await window.page.keyboard.press('Control+A');
  await window.page.keyboard.type('other = 1');
  await window.run('anythingllmRelay.acceptChange');
  await window.page.locator('.notification-toast').getByText('was changed where the proposal belongs').waitFor();
  assert.match(await window.shown(), /^other = 1/);
});

scene(
  'a file with CRLF keeps its line ends',
  { window: { files: { 'broken.py': BROKEN.replaceAll('\n', '\r\n') }, open: 'broken.py' } },
  async (given) => {
    const { window } = given;
    await proposed(given);
    await window.run('anythingllmRelay.acceptChange');
    await window.diff.waitFor({ state: 'detached' });
    await window.saved('broken.py', MENDED.replaceAll('\n', '\r\n'));
  },
);

scene('a file that was never saved is fixed', {}, async ({ window }) => {
  await window.palette('File: New Untitled Text File');
  await window.page.locator('.editor-instance .view-lines').first().waitFor();
  await window.page.evaluate((text) => navigator.clipboard.writeText(text), BROKEN);
  await window.page.keyboard.press('Control+V');
  await until(async () => (await window.shown()).includes('print'), 'the code');
  await window.run('anythingllmRelay.fix');
  await window.diff.waitFor();
  await until(async () => (await window.shown()).includes('range(3):'), 'the proposal');
  await window.look('untitled');
  await window.run('anythingllmRelay.acceptChange');
  await window.diff.waitFor({ state: 'detached' });
  await until(async () => (await window.shown()).includes('range(3):'), 'the mended code');
});

scene(
  'a file that cannot be written is not changed, and that is told',
  { window: { files: { 'broken.py': BROKEN }, open: 'broken.py', settings: { 'files.readonlyInclude': { '**/broken.py': true } } } },
  async (given) => {
    const { window } = given;
    await proposed(given);
    await window.run('anythingllmRelay.acceptChange');
    await window.page.locator('.notification-toast').getByText('The editor did not take the change of broken.py.').waitFor();
    assert.equal(await window.file('broken.py'), BROKEN);
  },
);

const NOTEBOOK = JSON.stringify({
  cells: [{ cell_type: 'code', execution_count: null, metadata: {}, outputs: [], source: BROKEN.split(/(?<=\n)/) }],
  metadata: { language_info: { name: 'python' } },
  nbformat: 4,
  nbformat_minor: 5,
});

scene('a cell of a notebook is fixed', { window: { files: { 'cells.ipynb': NOTEBOOK } } }, async ({ window }) => {
  await window.page.locator('.explorer-folders-view').getByText('cells.ipynb').dblclick();
  await window.page.locator('.notebookOverlay .view-line').first().click();
  await window.run('anythingllmRelay.fix');
  await window.diff.waitFor();
  await window.look('notebook');
  await window.run('anythingllmRelay.acceptChange');
  await window.diff.waitFor({ state: 'detached' });
  await window.page.locator('.notebookOverlay').getByText('range(3):').first().waitFor();
});

scene(
  'a document that is closed ends the code for it',
  { window: { files: { 'new.py': '# !tokens=6 !pause=3600\n' }, open: 'new.py' } },
  async ({ relay, window }) => {
    await window.focus();
    await window.run('anythingllmRelay.generate');
    await until(async () => (await window.shown()).includes('tok3'), 'the first text in the editor');
    const closed = once(relay.upstream, 'closed');
    await window.palette('View: Revert and Close Editor');
    await closed;
    await window.page.locator('.notification-toast').getByText('The document was closed.').waitFor();
    assert.equal(await window.file('new.py'), '# !tokens=6 !pause=3600\n');
  },
);

scene(
  'code that is asked for while other code arrives takes its place',
  { window: { files: { 'new.py': '# !tokens=6 !pause=3600\n\n\n# !echo b = 2\n' }, open: 'new.py' } },
  async ({ relay, window }) => {
    await window.focus();
    await window.page.keyboard.press('Control+Home');
    await window.run('anythingllmRelay.generate');
    await until(async () => (await window.shown()).includes('tok3'), 'the first text in the editor');
    const closed = once(relay.upstream, 'closed');
    await window.page.keyboard.press('Control+End');
    await window.run('anythingllmRelay.generate');
    await closed;
    await until(async () => (await relay.counted('relay_streams_active')) === 0, 'no stream');
    // The stand-in echoes all of the prompt that is behind its word.
    await until(async () => (await window.shown()).includes('Answer with the new code alone'), 'the other code');
    assert.equal((await window.shown()).match(/^tok1 tok2 tok3$/gm)?.length, 2);
  },
);

const GREET = 'def greet(name: str) -> str:\n    return f"Hello, {name}!"\n\n\nprint(greet("editor"))';
// What the stand-in is to answer.
const ORDER = `\n!slow=0.05 !echo \`\`\`python\n${GREET}\n\`\`\`\n`;

for (const [name, eol] of [['LF', '\n'], ['CRLF', '\r\n']]) {
  scene(
    `code goes to its place while the file, with ${name}, is edited around it`,
    { window: { files: { 'new.py': `a = 1\n# Greet somebody.\nb = 2\n${ORDER}`.replaceAll('\n', eol) }, open: 'new.py' } },
    async ({ relay, window }) => {
      const { keyboard } = window.page;
      await window.focus();
      await keyboard.press('Control+Home');
      await keyboard.press('ArrowDown');
      await window.run('anythingllmRelay.generate');
      await until(async () => (await window.shown()).split('def greet').length === 3, 'the first of the code');
      await keyboard.press('Control+Home');
      await keyboard.type('first\n');
      await keyboard.press('Control+End');
      await keyboard.type('last');
      await until(async () => (await relay.counted('relay_streams_total{outcome="complete"}')) === 1, 'the end');
      await until(async () => (await window.shown()).split('print(greet("editor"))').length === 3, 'the last of the code');
      await window.saved('new.py', `first\na = 1\n# Greet somebody.\n${GREET}\nb = 2\n${ORDER}last`.replaceAll('\n', eol));
    },
  );
}

scene(
  'a folder that is not trusted does not say where to ask',
  {
    window: {
      files: { '.vscode/settings.json': '{"anythingllmRelay.workspace": "theirs", "anythingllmRelay.url": "http://127.0.0.1:9"}' },
      settings: { 'security.workspace.trust.enabled': true, 'security.workspace.trust.startupPrompt': 'never' },
    },
  },
  async ({ line, window }) => {
    await window.page.locator('.statusbar-item').getByText('Restricted Mode').waitFor();
    await window.ask('!tokens=3');
    await window.is('complete');
    assert.doesNotMatch(line.said, /theirs/);
    await window.look('not-trusted');
  },
);
