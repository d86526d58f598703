// How long a person waits, as measured; the README's figures are from here.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { scenes } = require('./scene');

const scene = scenes();

const RUNS = 10;

scene('delays', {}, async ({ relay, window }) => {
  /** @type {Record<string, number[]>} */
  const delays = { 'Enter to the first text on the screen': [], 'Stop to the closed upstream': [] };
  const [firsts, stops] = Object.values(delays);
  await window.run('anythingllmRelay.ask');
  const body = window.chat.locator('body');
  for (let run = 0; run < RUNS; run++) {
    const first = body.evaluate(firstText, run + 1);
    await window.chat.locator('#question').fill('!endless !slow=0.02');
    await window.chat.locator('#question').press('Enter');
    firsts.push(await first);
    await window.shows('tok20 ');
    const stop = body.evaluate(stopPressed);
    const closed = once(relay.upstream, 'closed');
    await window.chat.locator('#stop').click();
    stops.push((await closed)[0] - (await stop));
    await window.is('stopped');
  }
  for (const [what, measured] of Object.entries(delays)) {
    measured.sort((one, other) => one - other);
    console.log(`${what}: median ${middle(measured)} ms, longest ${measured.at(-1)} ms (${RUNS} runs)`);
    assert.ok(middle(measured) < 5000);
  }
});

/**
 * In the chat view: the time from Enter to the frame that shows the first text of the answer of this number.
 * @param {Element} body
 * @param {number} number
 * @returns {Promise<number>}
 */
function firstText(body, number) {
  return new Promise((resolve) => {
    let pressed = 0;
    const press = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === 'Enter') pressed = performance.now();
    };
    document.addEventListener('keydown', press, { capture: true });
    new MutationObserver((_, observer) => {
      const texts = body.querySelectorAll('article.answer .text');
      if (pressed === 0 || texts.length < number || texts[number - 1].textContent === '') return;
      observer.disconnect();
      document.removeEventListener('keydown', press, { capture: true });
      requestAnimationFrame(() => resolve(Math.round(performance.now() - pressed)));
    }).observe(body, { subtree: true, childList: true, characterData: true });
  });
}

/**
 * In the chat view: when Stop is pressed.
 * @returns {Promise<number>}
 */
function stopPressed() {
  return new Promise((resolve) => {
    document.addEventListener('click', () => resolve(Date.now()), { capture: true, once: true });
  });
}

/** @param {number[]} sorted */
function middle(sorted) {
  return sorted[Math.floor(sorted.length / 2)];
}
