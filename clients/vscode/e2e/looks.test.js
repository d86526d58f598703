// How the chat looks: in other themes, in a narrow side bar, in Chinese, and without a mouse.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { scenes } = require('./scene');
const { until } = require('./editor');

const scene = scenes();

const THEMES = ['Default Dark Modern', 'Default Light Modern', 'Default High Contrast', 'Default High Contrast Light'];
const LONG = `A word ${'without_an_end_'.repeat(30)} and ${'https://example.org/'.repeat(12)}\n\n\`\`\`averylonglanguagename\n${'x = 1; '.repeat(60)}\n\`\`\`\n\n\`${'inline_'.repeat(20)}\``;

for (const theme of THEMES) {
  scene(`all can be read in ${theme}`, { window: { settings: { 'workbench.colorTheme': theme } } }, async ({ window }) => {
    await window.ask('!reason !sources=2');
    await window.is('complete');
    await window.answer.locator('details.reasoning summary').click();
    await window.ask('!abort=429');
    await window.is('failed');
    await window.look(`theme ${theme}`);
    assert.deepEqual(await window.chat.locator('body').evaluate(pale), []);
    const [ring, focus] = await window.chat.locator('#question').evaluate((question) => {
      question.focus();
      const probe = document.createElement('i');
      probe.style.color = 'var(--vscode-focusBorder)';
      question.after(probe);
      return [getComputedStyle(question).outlineColor, getComputedStyle(probe).color];
    });
    assert.equal(ring, focus);
  });
}

scene('a narrow side bar cuts nothing off', { window: { size: { width: 620, height: 700 } } }, async ({ window }) => {
  await window.ask(`!echo ${LONG}`);
  await window.is('complete');
  assert.ok((await window.chat.locator('body').evaluate((body) => body.clientWidth)) < 200);
  await window.look('narrow');
  assert.deepEqual(await window.chat.locator('body').evaluate(outside), []);
});

scene(
  'in Chinese, with no English word left of the extension',
  { window: { language: 'zh-cn', settings: { 'anythingllmRelay.url': 'http://127.0.0.1:47113' } } },
  async ({ window }) => {
    await window.ask('你好');
    await window.is('failed');
    const words = await window.chat.locator('body').innerText();
    assert.match(words, /无法连接到中继。/);
    assert.match(words, /http:\/\/127\.0\.0\.1:47113 处没有程序在监听。/);
    assert.deepEqual(words.match(/[A-Za-z]+/g)?.filter((word) => !/^(http|unreachable)$/.test(word)) ?? [], []);
    await window.look('chinese-not-there');
    await window.run('anythingllmRelay.howToStart');
    await window.webview('vscode.markdown-language-features').getByText('make demo').waitFor();
    await window.look('chinese-how-to-start');
  },
);

scene('an answer in Chinese', { window: { language: 'zh-cn' } }, async ({ window }) => {
  await window.ask('!reason !sources=2');
  await window.is('complete');
  assert.match(await window.answer.innerText(), /完成 · [\d.]+ 秒 · \d+ 个 token/);
  await window.look('chinese');
});

scene(
  'by the keyboard alone: asked, stopped, applied, rejected',
  { window: { files: { 'hello.py': 'a = 1\n' }, open: 'hello.py' } },
  async ({ relay, window }) => {
    const { keyboard } = window.page;
    await window.focus();
    await keyboard.press('Control+A');
    await keyboard.press('Control+K');
    await keyboard.press('Alt+A');
    await window.chat.locator('#question:focus').waitFor();
    await keyboard.type('!endless');
    await keyboard.press('Enter');
    await window.shows('tok5');
    const closed = once(relay.upstream, 'closed');
    await keyboard.press('Escape');
    await closed;
    await window.is('stopped');
    await keyboard.type('!echo ```python');
    await keyboard.press('Shift+Enter');
    await keyboard.type('a = 2');
    await keyboard.press('Shift+Enter');
    await keyboard.type('```');
    await keyboard.press('Enter');
    await window.is('complete');
    // Back over what can be reached: Copy answer, and the block's Apply.
    await keyboard.press('Shift+Tab');
    await window.chat.locator('.copy-answer:focus').last().waitFor();
    await keyboard.press('Shift+Tab');
    await window.chat.locator('.apply:focus').waitFor();
    await window.look('keyboard');
    await keyboard.press('Enter');
    await window.diff.waitFor();
    await until(async () => (await window.shown()).includes('a = 2'), 'the proposal');
    await keyboard.press('Control+Shift+Backspace');
    await window.diff.waitFor({ state: 'detached' });
    await keyboard.press('Control+K');
    await keyboard.press('Alt+A');
    await window.chat.locator('#question:focus').waitFor();
  },
);

scene('an answer of a thousand lines is read while it grows', {}, async ({ window }) => {
  await window.ask('!tokens=10000 !slow=0.0005');
  await window.shows('tok500 ');
  const log = window.chat.locator('.log');
  await log.evaluate((element) => element.scrollTo(0, 0));
  await window.is('complete');
  assert.equal(await log.evaluate((element) => element.scrollTop), 0); // who reads its beginning stays there
  assert.equal((await window.text()).split(' ').length, 10000);
  await window.chat.locator('.log').focus();
  await window.page.keyboard.press('End');
  await until(() => log.evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight < 5), 'its end');
  await window.look('long');
});

/**
 * In the chat view: texts with less contrast than WCAG's level AA asks for.
 * @param {Element} body
 */
function pale(body) {
  const parse = (/** @type {string} */ color) => (color.match(/[\d.]+/g) ?? []).map(Number);
  const over = (/** @type {number[]} */ [r, g, b, a = 1], /** @type {number[]} */ under) => [r, g, b].map((part, at) => part * a + under[at] * (1 - a));
  const light = (/** @type {number[]} */ color) => {
    const [r, g, b] = color.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (/** @type {Element | null} */ element) => {
    const chain = [];
    for (let one = element; one; one = one.parentElement) chain.unshift(parse(getComputedStyle(one).backgroundColor));
    const side = document.documentElement.style.getPropertyValue('--vscode-sideBar-background');
    const probe = document.createElement('i');
    probe.style.color = side;
    document.body.append(probe);
    const first = parse(getComputedStyle(probe).color);
    probe.remove();
    return chain.reduce((under, color) => over(color, under), first);
  };
  /** @type {string[]} */
  const found = [];
  const texts = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!element || !texts.currentNode.textContent?.trim() || !element.getClientRects().length || element.matches(':disabled')) continue;
    const back = ground(element);
    const [one, other] = [light(over(parse(getComputedStyle(element).color), back)), light(back)].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(1)}: ${element.className} ${texts.currentNode.textContent.slice(0, 30)}`);
  }
  return found;
}

/**
 * In the chat view: what stands out of its sides and cannot be scrolled to.
 * @param {Element} body
 */
function outside(body) {
  const { right } = body.getBoundingClientRect();
  return Array.from(body.querySelectorAll('*'))
    .filter((element) => element.getClientRects().length && !element.closest('pre') && element.getBoundingClientRect().right > right + 0.5)
    .map((element) => `${element.tagName} ${element.className} ${element.textContent?.slice(0, 30)}`);
}
