// The pictures of README.md. They are left with the others; copied into images/ where the looks changed on purpose.
'use strict';

const { scenes } = require('./scene');
const { until } = require('./editor');

const scene = scenes();

const size = { width: 1000, height: 620 };
const AVERAGE = 'def average(numbers)\n    return sum(numbers) / len(numbers)\n\n\nprint(average([1, 2, 3]))\n';

scene(
  'picture of the chat in mid-answer',
  { window: { size, files: { 'average.py': AVERAGE }, open: 'average.py' } },
  async ({ window }) => {
    await window.ask('How do I greet somebody in Python?');
    await window.shows('return f"Hello');
    await window.look('readme-chat');
    await window.is('complete');
  },
);

scene(
  'picture of a fix',
  { window: { size, files: { 'average.py': AVERAGE }, open: 'average.py' } },
  async ({ window }) => {
    await window.focus();
    await window.run('anythingllmRelay.fix');
    await window.diff.waitFor();
    await until(async () => (await window.shown()).includes('(numbers):'), 'the proposal');
    await window.look('readme-fix');
  },
);

// What the stand-in is to answer is far below, out of sight.
const ORDER =
  '!slow=0.1 !echo ```python\ndef greet(name: str) -> str:\n    """Say hello to somebody."""\n    return f"Hello, {name}!"\n```\n';

scene(
  'picture of code that is generated',
  { window: { size, files: { 'greet.py': `# Greet somebody by name.\n${'\n'.repeat(60)}${ORDER}` }, open: 'greet.py' } },
  async ({ window }) => {
    await window.focus();
    await window.run('anythingllmRelay.generate');
    await until(async () => (await window.shown()).includes('Say hello'), 'the first lines of code');
    await window.look('readme-generate');
    await until(async () => (await window.shown()).includes('return f"Hello, {name}!"'), 'the last line of code');
  },
);
