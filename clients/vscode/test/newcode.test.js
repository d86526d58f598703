const assert = require("node:assert/strict");
const { test } = require("node:test");
const { NewCode } = require("../src/newcode.js");

/** @param {string} answer @param {number} size @param {string} [indent] @param {string} [eol] */
function inserted(answer, size, indent, eol) {
  const code = new NewCode(indent, eol);
  let text = "";
  for (let at = 0; at < answer.length; at += size) text += code.feed(answer.slice(at, at + size));
  return text + code.close();
}

/** @type {[string, string, string, string?, string?][]} */
const CASES = [
  ["a block alone", "```python\na = 1\n\nif a:\n    b = 2\n```\n", "\na = 1\n\nif a:\n    b = 2"],
  ["words around it", "Here is the code you want:\n\n```py\na\n```\nIt does b.\n```\nmore\n```", "\na"],
  ["a longer fence", "````md\n```\nx\n```\n````", "\n```\nx\n```"],
  ["no block", "a = 1\nb = 2\n\n", "\na = 1\nb = 2"],
  ["no block, one line", "tok1 tok2", "\ntok1 tok2"],
  ["no block, a capital letter", "Point = namedtuple('Point', 'x y')\n", "\nPoint = namedtuple('Point', 'x y')"],
  ["no block, a keyword", "\n\nSELECT name FROM t\nWHERE x", "\nSELECT name FROM t\nWHERE x"],
  ["words alone", "I cannot do that.", ""],
  ["nothing", "", ""],
  ["indented where the model did not", "```\na\n  b\n\nc\n```", "\n    a\n      b\n\n    c", "    "],
  ["not where it did", "```\n    a\n      b\n```", "\n    a\n      b", "    "],
  ["by tabs", "```\nif a:\n\tb\n```", "\n\tif a:\n\t\tb", "\t"],
  ["in a file with CRLF", "```\na\r\n\r\nb  c\n```", "\r\na\r\n\r\nb  c", "", "\r\n"],
  ["blank lines around", "```\n\n\na\n\n\n```", "\na"],
  ["trailing blanks", "```\na  \nb\t\n```", "\na\nb"],
  ["a block that does not end", "```\na\nb", "\na\nb"],
];

for (const [name, answer, expected, indent, eol] of CASES) {
  test(`the code of an answer, in whatever pieces it comes: ${name}`, () => {
    for (let size = 1; size <= answer.length + 1; size++) assert.equal(inserted(answer, size, indent, eol), expected);
  });
}

test("code comes before its line ends", () => {
  const code = new NewCode();
  assert.equal(code.feed("```python\nfor n in"), "\nfor n in");
  assert.equal(code.feed(" range"), " range");
  assert.equal(new NewCode().feed("tok1 tok2"), "\ntok1 tok2");
});

test("an answer without code is empty", () => {
  const code = new NewCode();
  code.feed("I cannot do that.");
  code.close();
  assert.ok(code.isEmpty);
});
