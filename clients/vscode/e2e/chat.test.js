// The chat view: what a person sees of an answer, and can do about it.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { scenes } = require('./scene');
const { until } = require('./editor');

const scene = scenes();

const HOSTILE =
  '<script>alert(1)</script><img src=x onerror=alert(2)>\n' +
  "[click](javascript:alert(3)) [run](command:workbench.action.quit) <a href='javascript:alert(4)'>here</a>\n" +
  '<style>*{display:none}</style>\n' +
  '```html\n<script>alert(5)</script></code></pre><img src=x onerror=alert(6)>\n```\n' +
  "`<b onclick=alert(7)>` </div></article><iframe src='javascript:alert(8)'></iframe>\n" +
  '## <img src=x onerror=alert(9)>\n**<img src=x onerror=alert(10)>** **`<b onclick=alert(11)>`**\n**';

scene('an answer is there while it is written, and Stop reaches AnythingLLM', {}, async ({ relay, window }) => {
  await window.ask('!tokens=6 !pause=3600');
  await window.shows('tok1 tok2 tok3');
  await window.is('running');
  assert.equal(await window.text(), 'tok1 tok2 tok3');
  assert.equal(await relay.counted('relay_streams_active'), 1);
  await window.look('arriving');
  const closed = once(relay.upstream, 'closed');
  await window.chat.locator('#stop').click();
  await closed;
  await window.is('stopped');
  const cancelled = async () => (await relay.counted('relay_streams_total{outcome="cancelled"}')) === 1;
  await until(cancelled, 'the relay to count a cancelled stream');
  assert.equal(await relay.counted('relay_streams_active'), 0);
  assert.equal(await window.text(), 'tok1 tok2 tok3');
  await window.look('stopped');
});

scene('a command stops too', {}, async ({ relay, window }) => {
  await window.ask('!endless');
  await window.shows('tok20');
  const closed = once(relay.upstream, 'closed');
  await window.run('anythingllmRelay.stop');
  await closed;
  await window.is('stopped');
});

scene('hostile text is text', {}, async ({ window }) => {
  await window.ask(`!echo ${HOSTILE}`);
  await window.is('complete');
  assert.equal(await window.text(), HOSTILE);
  const made = '.text :is(script, img, svg, style, iframe, b, a)';
  assert.equal(await window.chat.locator(made).count(), 0);
  await window.look('hostile');
});

scene('headings and strong words are shown as such, without their marks', {}, async ({ window }) => {
  const answer =
    '# The `first` **of** all\n**Strong `a**b`**, **kwargs, x**2 + y**2, 2 ** 3 ** 4\n' +
    '```\n# no heading **nor strong**\n```\n## **Last**\nend **of it';
  await window.ask(`!echo ${answer}`);
  await window.is('complete');
  assert.equal(await window.text(), answer);
  const seen = (/** @type {string} */ selector) => window.answer.locator(`.text ${selector}`).allInnerTexts();
  assert.deepEqual(await seen('strong'), ['of', 'Strong a**b', 'Last']);
  assert.deepEqual((await seen('[role=heading]')).map((text) => text.trim()), ['The first of all', 'Last']);
  await window.look('marked');
  await window.answer.locator('button.copy-answer').click();
  const copied = () => window.page.evaluate(() => navigator.clipboard.readText());
  await until(async () => (await copied()) === answer, 'the answer on the clipboard, with its marks');
});

scene(
  'code is copied, inserted at the cursor, and applied to what is selected',
  { window: { files: { 'hello.py': 'before\nafter\n' }, open: 'hello.py' } },
  async ({ window }) => {
    const code = 'for n in range(3):\n    print(n)\n';
    await window.focus();
    await window.page.keyboard.press('Control+Home');
    await window.page.keyboard.press('End');
    await window.page.keyboard.press('Enter');
    await window.ask(`!echo Look:\n\n\`\`\`python\n${code}\`\`\`\nDone.`);
    await window.is('complete');
    const block = window.answer.locator('.code').first();
    await block.hover();
    await window.look('code');
    await block.locator('button.copy').click();
    const copied = () => window.page.evaluate(() => navigator.clipboard.readText());
    await until(async () => (await copied()).trimEnd() === code.trimEnd(), 'the code on the clipboard');
    await block.locator('button.insert').click();
    await until(async () => (await window.shown()).includes('print(n)'), 'the code in the editor');
    await window.save();
    assert.match(await window.file('hello.py'), /^before\nfor n in range\(3\):\n {4}print\(n\)\n+after\n$/);
    await window.focus();
    await window.page.keyboard.press('Control+Home');
    await window.page.keyboard.press('Shift+End');
    await block.hover();
    await block.locator('button.apply').click();
    await window.diff.waitFor();
    await until(async () => (await window.shown()).includes('print(n)'), 'the proposal');
    await window.look('apply');
    await window.run('anythingllmRelay.rejectChange');
    await window.diff.waitFor({ state: 'detached' });
    assert.match(await window.file('hello.py'), /^before\nfor/);
  },
);

scene('a failure has words and a code, and can be tried again', {}, async ({ relay, window }) => {
  await window.ask('!abort=429');
  await window.is('failed');
  assert.match(await window.answer.locator('.error').innerText(), /Rate limit reached/);
  assert.equal(await window.answer.locator('.error .code').innerText(), 'upstream_aborted');
  await window.look('error');
  assert.equal(relay.asked, 1);
  await window.answer.locator('button.retry').click();
  await until(() => relay.asked === 2, 'a second question');
  await window.is('failed');
});

scene('reasoning, progress and sources are told apart from the answer', {}, async ({ window }) => {
  await window.ask('!reason !sources=2');
  await window.is('complete');
  assert.doesNotMatch(await window.text(), /think/);
  const reasoning = window.answer.locator('details.reasoning');
  assert.equal(await reasoning.getAttribute('open'), null);
  assert.match((await reasoning.textContent()) ?? '', /I should think first\./);
  assert.equal(await window.answer.locator('ul.sources li').count(), 2);
  await window.ask('@agent !tool');
  await window.is('complete');
  await window.answer.locator('details.progress').waitFor();
  await window.look('reasoning');
});

scene('a conversation has a history, a new one has none', {}, async ({ window }) => {
  await window.ask('!echo one');
  await window.is('complete');
  await window.ask('!history');
  await window.is('complete');
  await window.shows('!echo one');
  await window.run('anythingllmRelay.newConversation');
  await window.answers.first().waitFor({ state: 'detached' });
  await window.ask('!history');
  await window.shows('No earlier questions.');
});
