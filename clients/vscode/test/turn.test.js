const assert = require("node:assert/strict");
const { test } = require("node:test");
const { Fences, blocks } = require("../src/fences.js");
const { Turn, web } = require("../src/turn.js");

const ANSWER =
  "Before `x = 1`, ``two``\n\n```python\nfor n in range(3):\n\tprint(`n`)\n```\nand\n1. a list\n" +
  "   ```sh\n   make\n     it\n   ```\n````md\n```\nnot the end\n````\nlast ```";

test("the pieces are the text, in whatever parts it comes", () => {
  for (let size = 1; size < ANSWER.length; size++) {
    const fences = new Fences();
    const pieces = [];
    let given = "";
    for (let at = 0; at < ANSWER.length; at += size) {
      given = ANSWER.slice(0, at + size);
      pieces.push(...fences.feed(ANSWER.slice(at, at + size)));
      assert.equal(pieces.map(({ text }) => text).join("") + fences.held, given);
    }
    pieces.push(...fences.close());
    assert.equal(pieces.map(({ text }) => text).join(""), ANSWER);
    assert.deepEqual(blocks(pieces), [
      { language: "python", code: "for n in range(3):\n\tprint(`n`)\n", closed: true },
      { language: "sh", code: "make\n  it\n", closed: true },
      { language: "md", code: "```\nnot the end\n", closed: true },
    ]);
  }
});

/** @param {string} text @param {number} size */
function cut(text, size) {
  const fences = new Fences();
  const cuts = [];
  for (let at = 0; at < text.length; at += size) {
    cuts.push(fences.feed(text.slice(at, at + size)));
    assert.ok(fences.held.length <= 200);
  }
  const pieces = [...cuts, fences.close()].flat();
  assert.equal(pieces.map((piece) => piece.text).join(""), text);
  return pieces;
}

/** @param {string} text @param {string} kind */
function found(text, kind) {
  const [whole, ...others] = [text.length, 1, 2, 3].map((size) => cut(text, size).filter((piece) => piece.kind === kind));
  for (const other of others) assert.deepEqual(other, whole);
  return whole.map((piece) => piece.text);
}

test("words in two asterisks are strong", () => {
  for (const text of ["**a**", "**two words**", "**use `x` here**", "**`a**b`**", "**<img onerror>**", "**a *b* c**", "**a\u00a0b**"]) {
    assert.deepEqual(found(text, "strong"), [text]);
    assert.deepEqual(found(`- (${text}), 用Python**编写**and ${text}\n${text}`, "strong"), [text, "**编写**", text, text]);
    assert.deepEqual(found(`\`\`\`\n${text}\n\`\`\``, "strong"), []);
  }
  assert.deepEqual(found(`**${"x".repeat(196)}** **${"y".repeat(197)}**`, "strong"), [`**${"x".repeat(196)}**`]);
});

test("other asterisks are text", () => {
  const texts = ["2 ** 3 ** 4", "**kwargs", "a**b", "a**b**c", "x**2 + y**2", "x**(2) + y**(3)", "f(**a, **b)", "***a***", "**a***", "***a**", "__a__"];
  texts.push("**", "a**", "****", "** a**", "**a **", "**a\nb**", "**a `b** c`", "**it`s**", "**a ** b**", "* a\n* b", "`**a**`", "**\u3000a**");
  for (const text of texts) assert.deepEqual(found(text, "strong"), [], text);
});

test("runs of marks are text, however they come", () => {
  for (const [text, inline] of [["a ```x`", []], ["`x``", ["`x`"]], [`${"`".repeat(301)}x\``, []], [`\`${"x".repeat(300)}\``, []]]) {
    assert.deepEqual(found(String(text), "inline"), inline);
  }
  assert.deepEqual(found(`${"*".repeat(301)}x**`, "strong"), []);
});

test("a line that begins with number signs and a blank is a heading", () => {
  assert.deepEqual(found("# a\n## `b` **c**\r\n###### d", "heading"), ["# ", "## ", "###### "]);
  assert.deepEqual(cut("##\t a", 1).map(({ kind, level }) => [kind, level]), [["heading", 2], ["text", undefined]]);
  for (const text of ["#a", "#", "# ", "# \n", "#\na", "#!/bin/sh", "a # b", " # a", "####### a", "```\n# a\n```"]) {
    assert.deepEqual(found(text, "heading"), [], text);
  }
});

test("asterisks by the million take no longer than other text", () => {
  for (const part of ["*", "**", "**a ", "**a", "a** ", "**`a ", "**`a` ", "* ", "#", "# ", "\n# **", `**${"a".repeat(190)} `]) {
    const text = part.repeat(1_000_000 / part.length);
    assert.deepEqual(cut(text, text.length).filter(({ kind }) => kind === "strong"), [], part);
    cut(text, 1_000);
  }
  assert.equal(cut("**a** ".repeat(100_000), 1_000).filter(({ kind }) => kind === "strong").length, 100_000);
});

/** @param {Turn} turn @param {string} text */
function told(turn, text) {
  for (const piece of text.match(/[^]{1,7}/g) ?? []) turn.add({ type: "chunk", content: piece });
}

const END = { type: "final_end", reason: "complete", sources: [], metrics: {} };

test("a turn that is kept in mid-answer goes on as if nothing had been", () => {
  for (let at = 0; at <= ANSWER.length; at += 3) {
    const turn = Turn.asked("title", "question");
    told(turn, ANSWER.slice(0, at));
    const next = new Turn(JSON.parse(JSON.stringify(turn.kept)));
    assert.equal(next.pieces.map(({ text }) => text).join("") + next.held, ANSWER.slice(0, at));
    told(next, ANSWER.slice(at));
    next.add(END);
    assert.equal(next.kept.text, ANSWER);
    assert.equal(next.kept.state, "complete");
    assert.equal(blocks(next.pieces).length, 3);
  }
});

test("an end has its state, its sources and its figures", () => {
  const turn = Turn.asked("t", "q");
  turn.add({ type: "reasoning", content: "hm" });
  turn.add({ type: "thought", content: "looking" });
  turn.add({ type: "output", kind: "file", content: { filename: "a" } });
  const sources = [
    { title: "One", url: "https://example.org/1" },
    { title: "One", url: "https://example.org/1" },
    { title: "Bad", url: "javascript:alert(1)" },
    { title: "", url: "", id: "" },
    { url: "command:x" },
  ];
  turn.add({ ...END, sources, metrics: { total_tokens: 7, duration: 1.25 } });
  assert.deepEqual(turn.kept.sources, [
    { title: "One", url: "https://example.org/1" },
    { title: "Bad", url: "" },
    { title: "command:x", url: "" },
  ]);
  assert.deepEqual([turn.kept.seconds, turn.kept.tokens], [1.25, 7]);
  assert.deepEqual([turn.kept.reasoning, turn.kept.progress, turn.kept.outputs.length], ["hm", ["looking"], 1]);
  const failed = Turn.asked("t", "q");
  failed.add({ type: "error", code: "empty_answer", message: "m", retryable: true });
  failed.add({ ...END, reason: "error" });
  assert.equal(failed.kept.state, "failed");
  const stopped = Turn.asked("t", "q");
  stopped.add({ ...END, reason: "cancelled" });
  assert.equal(stopped.kept.state, "stopped");
});

test("an answer is not kept beyond its bound", () => {
  const turn = Turn.asked("t", "q");
  turn.add({ type: "chunk", content: "x".repeat(1_999_999) });
  assert.ok(!turn.overflows);
  turn.add({ type: "chunk", content: "xx" });
  assert.ok(turn.overflows);
  const agent = Turn.asked("t", "q");
  for (let made = 0; made < 20; made++) agent.add({ type: "output", kind: "chart", content: { points: "x".repeat(200_000) } });
  assert.ok(!agent.overflows);
  agent.add({ type: "output", kind: "chart", content: {} });
  assert.ok(agent.overflows);
});

test("links lead to web pages alone", () => {
  assert.equal(web("https://example.org/a b"), "https://example.org/a%20b");
  for (const url of ["javascript:alert(1)", "command:x", "file:///etc/passwd", "vscode://x", "data:text/html,x", "", null, "x"]) assert.equal(web(url), "");
});
