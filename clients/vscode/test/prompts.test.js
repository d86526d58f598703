const assert = require("node:assert/strict");
const { test } = require("node:test");
const { TooLong, explaining, fenced, fixing, generating, isSame, places, plain } = require("../src/prompts.js");

/** @param {Partial<import("../src/prompts.js").Code>} given @returns {import("../src/prompts.js").Code} */
function code(given = {}) {
  return { name: "src/app.py", language: "python", text: "a = 1\nb = a +\n", first: 1, whole: true, ...given };
}

test("a whole file is asked about with its name, its language and its lines", () => {
  const question = fixing(code());
  assert.match(question, /^Find what is wrong with src\/app\.py, /);
  assert.match(question, /all of the file, in one block/);
  assert.match(question, /\nsrc\/app\.py:\n```python\na = 1\nb = a \+\n```$/);
});

test("a part is asked about with its lines", () => {
  assert.match(fixing(code({ whole: false, first: 7 })), /this part of src\/app\.py.*\n\nsrc\/app\.py, lines 7 to 8:\n/s);
  assert.match(fixing(code({ whole: false, first: 7, text: "x" })), /src\/app\.py, line 7:\n/);
});

test("what the editor says of it is told with code, message and line", () => {
  const one = { line: 2, severity: "error", message: "invalid\n  syntax", source: "pylint E0001" };
  assert.match(fixing(code(), [one]), /The editor says of it:\n- line 2: error: invalid syntax \(pylint E0001\)/);
  assert.match(fixing(code(), Array(25).fill(one)), /- and 5 more$/);
  assert.match(explaining(code(), [one]), /line 2/);
});

test("output comes without its escape sequences, and names lines", () => {
  const output = '\u001b[31mTraceback\u001b[0m\r\n  File "/home/me/src/app.py", line 2, in <module>\r\n  File "/usr/lib/other.py", line 1\r\n\u001b]0;title\u0007';
  const question = fixing(code(), [], output);
  assert.match(question, /^The program src\/app\.py fails\. Find the cause/);
  assert.match(question, /Error output:\n```text\nTraceback\n {2}File "\/home/);
  assert.match(question, /names these lines of src\/app\.py, the innermost last: 2\.$/);
  assert.doesNotMatch(question, /\u001b|title/);
  assert.match(fixing(null, [], "boom"), /^Explain this error.*\n\nError output:\n```text\nboom\n```$/s);
});

test("of long output the end is told", () => {
  const question = fixing(null, [], `first\n${"x".repeat(70_000)}\nlast`);
  assert.match(question, /\[\d+ characters before this are left out\]/);
  assert.match(question, /\nlast\n```$/);
  assert.doesNotMatch(question, /first/);
});

test("what is too large is refused, with its size", () => {
  assert.throws(() => fixing(code({ text: "x".repeat(1_100_000) })), (error) => error instanceof TooLong && error.size === "1.05 MiB" && error.most === "0.996 MiB");
});

test("a fence is longer than any in the code", () => {
  assert.equal(fenced("a", "python"), "```python\na\n```");
  assert.equal(fenced("```\nx\n````\n", "markdown"), "`````markdown\n```\nx\n````\n`````");
  assert.equal(fenced("a", "plaintext"), "```\na\n```");
  assert.equal(fenced("a", "c++"), "```c++\na\n```");
  assert.equal(fenced("a", "odd `one`"), "```\na\n```");
});

test("half of a surrogate pair, which the relay refuses, is replaced", () => {
  assert.ok(fixing(code({ text: "x = '\ud800'\n" })).isWellFormed());
});

test("code is wished for with what stands around it, within bounds", () => {
  const place = { name: "a.py", language: "python", before: `${"x".repeat(20_000)}before\n`, after: "\nafter", wish: "# sort it" };
  const question = generating(place);
  assert.match(question, /asks for:\n\n```python\n# sort it\n```\n\nBefore it stands:\n```python\nx+before\n```\n\nAfter it stands:\n```python\n\nafter\n```/);
  assert.ok(question.length < 13_000);
  assert.doesNotMatch(generating({ ...place, before: "\n", after: "" }), /stands:/);
});

test("places are found in output of many kinds", () => {
  const output = 'File "a b.py", line 3\n  at f (/src/x.js:10:5)\nsrc/y.go:7: oops\nC:\\w\\z.py:4';
  assert.deepEqual(places(output).slice(0, 3), [
    { path: "a b.py", line: 3 },
    { path: "/src/x.js", line: 10 },
    { path: "src/y.go", line: 7 },
  ]);
  assert.deepEqual(places("src/y.go:7: oops, see http://localhost:5000 and //host:1"), [{ path: "src/y.go", line: 7 }]);
});

test("a long word without a place takes little time", () => {
  assert.deepEqual(places("x".repeat(4_000_000)), []); // from each of its characters it would be hours
});

test("paths may say more or less of the folders", () => {
  assert.ok(isSame("/home/me/src/app.py", "src/app.py"));
  assert.ok(isSame("app.py", "src/app.py"));
  assert.ok(isSame("./app.py", "app.py"));
  assert.ok(isSame("..\\src\\app.py", "src/app.py"));
  assert.ok(!isSame("/other/app.py", "src/app.py"));
  assert.ok(!isSame("", "src/app.py"));
});

test("line ends and tabs stay", () => {
  assert.equal(plain("a\r\n\tb\u0000\u007f"), "a\n\tb");
});
