const assert = require("node:assert/strict");
const { test } = require("node:test");
const { choose, edits, fitted, locate, place } = require("../src/edits.js");

/** @param {string} old @param {import("../src/edits.js").Edit[]} changes */
function applied(old, changes) {
  return [...changes].reverse().reduce((text, { start, end, text: fresh }) => text.slice(0, start) + fresh + text.slice(end), old);
}

/** @param {number} seed */
function random(seed) {
  return () => (seed = (seed * 48271) % 2147483647) / 2147483647;
}

test("a change of one word is an edit of that word", () => {
  assert.deepEqual(edits("one\ntwo\nthree\n", "one\n2\nthree\n"), [{ start: 4, end: 7, text: "2" }]);
  assert.deepEqual(edits("same\n", "same\n"), []);
  assert.deepEqual(edits("", "new\n"), [{ start: 0, end: 0, text: "new\n" }]);
  assert.deepEqual(edits("for i in x\n  y\n", "for i in x:\n  y\n"), [{ start: 10, end: 10, text: ":" }]);
});

test("two changes far apart are two edits", () => {
  const old = Array.from({ length: 40 }, (_, n) => `line ${n}\n`).join("");
  const fresh = old.replace("line 3\n", "line three\n").replace("line 30\n", "");
  const found = edits(old, fresh);
  assert.equal(found.length, 2);
  assert.equal(applied(old, found), fresh);
});

test("whatever the texts, the edits make one of the other, in order and apart", () => {
  const dice = random(7);
  const word = () => ["a", "b", "c\r", "é", "😀", "😁", "", "  d"][Math.floor(dice() * 8)];
  const text = () => Array.from({ length: Math.floor(dice() * 12) }, word).join("\n") + (dice() < 0.5 ? "\n" : "");
  for (let n = 0; n < 5000; n++) {
    const [old, fresh] = [text(), text()];
    const found = edits(old, fresh);
    assert.equal(applied(old, found), fresh, JSON.stringify([old, fresh]));
    for (let at = 1; at < found.length; at++) assert.ok(found[at - 1].end < found[at].start || found[at - 1].end <= found[at].start);
    for (const { start, end, text: come } of found) {
      assert.ok(!/^[\uDC00-\uDFFF]|[\uD800-\uDBFF]$/.test(come), JSON.stringify([old, fresh]));
      for (const at of [start, end]) assert.ok(!/^(?:[\uD800-\uDBFF][\uDC00-\uDFFF]|\r\n)/.test(old.slice(Math.max(0, at - 1), at + 1)) || at === 0);
    }
  }
});

test("texts without a line in common are one edit, in little time", () => {
  const old = Array.from({ length: 20_000 }, (_, n) => `old ${n}\n`).join("");
  const fresh = Array.from({ length: 20_000 }, (_, n) => `new ${n}\n`).join("");
  const found = edits(old, fresh);
  assert.equal(found.length, 1);
  assert.equal(applied(old, found), fresh);
});

test("the block that is most like the code is chosen", () => {
  const block = (/** @type {string} */ language, /** @type {string} */ code, closed = true) => ({ language, code, closed });
  const code = "def f(x)\n    return x\n";
  const fixed = "def f(x):\n    return x\n";
  assert.equal(choose([block("python", "return\n"), block("text", code), block("python", fixed)], code, "python"), fixed);
  assert.equal(choose([block("python", fixed), block("python", "print(f(1))\n")], code, "python"), fixed);
  assert.equal(choose([block("", fixed)], code, "python"), fixed);
  assert.equal(choose([block("python", fixed, false)], code, "python"), null);
  assert.equal(choose([block("sh", "ls\n")], code, "python"), null);
  assert.equal(choose([block("bash", "ls -l\n")], "ls\n", "shellscript"), null);
  assert.equal(choose([], code, "python"), null);
});

test("a function alone takes the place of that function", () => {
  const old = "import os\n\n\ndef f(x):\n    y = x\n    return y\n\n\ndef g():\n    pass\n\n\ndef h():\n    return 3\n";
  const found = place(old, "def f(x):\n    y = x + 1\n    return y\n");
  const { start, end } = found ?? assert.fail();
  assert.equal(old.slice(start, end), "def f(x):\n    y = x\n    return y\n");
  assert.equal(place(old, "something = else_\n"), null);
  assert.deepEqual(place("a\nb\nc\n", "a\nB\nc\n"), { start: 0, end: 6 });
  assert.deepEqual(place("x = f(\n", "x = f()\n"), { start: 0, end: 7 });
  assert.equal(place("x = f(\n", "x = f()\n", true), null);
  assert.deepEqual(place("a\nb\n", "a\nc\n", true), { start: 0, end: 4 });
});

test("new code gets the indentation and the line ends of the old", () => {
  assert.equal(fitted("    a\n      b\n", "a\n\n  B"), "    a\n\n      B\n");
  assert.equal(fitted("    a\n", "    b\n"), "    b\n");
  assert.equal(fitted("a\r\nb\r\n", "a\nc\n"), "a\r\nc\r\n");
  assert.equal(fitted("a", "b\n"), "b");
  assert.equal(fitted("a\n\n", "b"), "b\n\n");
  assert.equal(fitted("\ta\n", "b\n"), "\tb\n");
});

test("code is found where it is by now, if there is no doubt", () => {
  assert.equal(locate("xx code", "code", 3), 3);
  assert.equal(locate("new line\nxx code", "code", 3), 12);
  assert.equal(locate("xx cod", "code", 3), -1);
  assert.equal(locate("-code code", "code", 3), -1);
  assert.equal(locate("code code", "code", 5), 5);
});
