/** The questions that are asked: out of code, diagnostics and output. Pure, and in the words that a model reads. */

/** Bytes: what a relay takes unless it is told otherwise, less the other fields of a request. */
const MOST = 1_048_576 - 4_096;
/** Characters of output, from its end: what went wrong is said last. */
const MOST_OUTPUT = 65_536;
const MOST_DIAGNOSTICS = 20;
const MOST_LINES = 20;
/** Characters of a file around the place where code is wanted. */
const BEFORE = 12_000;
const AFTER = 4_000;

// Escape sequences of terminals, and control characters that are no text.
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][\s\S]*?(?:\u0007|\u001b\\|$)|[ -/]*[0-~])|[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g;
// A word begins where none is before it: else a long one would be looked at from each of its characters.
const PLACE = /File "([^"\n]+)", line (\d{1,9})|(?<![^\s:"'(<])([^\s:"'(<]+):(\d{1,9})\b/g;

/**
 * @typedef {{line: number, severity: string, message: string, source: string}} Diagnostic
 * @typedef {object} Code
 * @property {string} name of its file, relative to the workspace
 * @property {string} language VS Code's id
 * @property {string} text
 * @property {number} first the number of its first line
 * @property {boolean} whole whether it is all of the file
 */

/** A question that no relay takes. */
class TooLong extends Error {
  /** @param {number} size bytes */
  constructor(size) {
    super(`${mebibytes(size)} of at most ${mebibytes(MOST)}`);
    this.size = mebibytes(size);
    this.most = mebibytes(MOST);
  }
}

/**
 * @param {Code | null} code
 * @param {Diagnostic[]} diagnostics
 * @param {string} output of a program or its tests
 */
function fixing(code, diagnostics = [], output = "") {
  const said = tail(plain(output).trim());
  if (!code) return bounded(["Explain this error, and how to mend it.", outputOf(said)]);
  const what = code.whole ? code.name : `this part of ${code.name}`;
  const find = said ? `The program ${code.name} fails. Find the cause` : `Find what is wrong with ${what}`;
  return bounded([
    `${find}, explain it in a few sentences, and give the corrected code: all of ${code.whole ? "the file" : "this part"}, in one block, ` +
      "to stand in the place of what is below, indented as it is there. Change nothing else.",
    codeOf(code),
    told(diagnostics),
    said && outputOf(said),
    said && linesOf(code, said),
  ]);
}

/**
 * @param {Code} code
 * @param {Diagnostic[]} diagnostics
 */
function explaining(code, diagnostics = []) {
  return bounded(["Explain what this code does, and what is remarkable about it, in a few sentences.", codeOf(code), told(diagnostics)]);
}

/**
 * @param {{name: string, language: string, before: string, after: string, wish: string}} place where code is wanted, and
 *   the comment that says which
 */
function generating({ name, language, before, after, wish }) {
  const above = before.slice(-BEFORE);
  const below = after.slice(0, AFTER);
  return bounded([
    `Write the code that this comment in ${name} asks for:`,
    fenced(wish, language),
    above.trim() && `Before it stands:\n${fenced(above, language)}`,
    below.trim() && `After it stands:\n${fenced(below, language)}`,
    `Answer with the new code alone, in one block${language ? ` of ${language}` : ""}: nothing of what stands there already, and no words around it.`,
  ]);
}

/** @param {Code} code */
function codeOf(code) {
  const end = code.first + code.text.replace(/\n$/, "").split("\n").length - 1;
  const lines = code.first === end ? `line ${end}` : `lines ${code.first} to ${end}`;
  return `${code.name}${code.whole ? "" : `, ${lines}`}:\n${fenced(code.text, code.language)}`;
}

/** @param {Diagnostic[]} diagnostics */
function told(diagnostics) {
  if (!diagnostics.length) return "";
  const lines = diagnostics.slice(0, MOST_DIAGNOSTICS).map(({ line, severity, message, source }) => {
    return `- line ${line}: ${severity}: ${message.replace(/\s*\n\s*/g, " ")}${source ? ` (${source})` : ""}`;
  });
  if (diagnostics.length > MOST_DIAGNOSTICS) lines.push(`- and ${diagnostics.length - MOST_DIAGNOSTICS} more`);
  return `The editor says of it:\n${lines.join("\n")}`;
}

/** @param {string} output */
function outputOf(output) {
  return `Error output:\n${fenced(output, "text")}`;
}

/**
 * @param {Code} code
 * @param {string} output
 */
function linesOf(code, output) {
  const end = code.first + code.text.split("\n").length;
  const numbers = places(output)
    .filter(({ path, line }) => isSame(path, code.name) && code.first <= line && line < end)
    .map(({ line }) => line);
  const lines = [...new Set(numbers.reverse())].reverse().slice(-MOST_LINES);
  return lines.length ? `The error output names these lines of ${code.name}, the innermost last: ${lines.join(", ")}.` : "";
}

/**
 * The places in files that an output names, in its order.
 * @param {string} output
 */
function places(output) {
  const found = [...output.matchAll(PLACE)].map(([, path, line, other, otherLine]) => ({ path: path ?? other, line: Number(line ?? otherLine) }));
  return found.filter(({ path }) => !path.startsWith("//")); // of http://localhost:5000
}

/**
 * Whether two paths may be one; either may say more of the folders.
 * @param {string} one
 * @param {string} other
 */
function isSame(one, other) {
  const [shorter, longer] = [parts(one), parts(other)].sort((a, b) => a.length - b.length);
  return shorter.length > 0 && shorter.every((part, at) => part === longer[longer.length - shorter.length + at]);
}

/** @param {string} path */
function parts(path) {
  const all = path.split(/[\\/]/).filter((part) => part && part !== ".");
  return all.slice(all.lastIndexOf("..") + 1);
}

/**
 * Text behind a fence that is longer than any in it.
 * @param {string} text
 * @param {string} language
 */
function fenced(text, language) {
  const longest = Math.max(0, ...Array.from(text.matchAll(/`+/g), ([run]) => run.length));
  const fence = "`".repeat(Math.max(3, longest + 1));
  const label = /^[\w+#.-]*$/.test(language) && language !== "plaintext" ? language : "";
  return `${fence}${label}\n${text}${text.endsWith("\n") ? "" : "\n"}${fence}`;
}

/** @param {string} text of a terminal */
function plain(text) {
  return text.replace(/\r\n/g, "\n").replace(ESCAPES, "");
}

/** @param {string} text */
function tail(text) {
  const over = text.length - MOST_OUTPUT;
  return over > 0 ? `[${over} characters before this are left out]\n${text.slice(over)}` : text;
}

/** @param {string[]} parts */
function bounded(parts) {
  const whole = parts.filter(Boolean).join("\n\n").replace(/\r\n?/g, "\n").toWellFormed();
  const size = new TextEncoder().encode(JSON.stringify(whole)).length;
  if (size > MOST) throw new TooLong(size);
  return whole;
}

/** @param {number} size */
function mebibytes(size) {
  return `${(size / 1_048_576).toPrecision(3)} MiB`;
}

module.exports = { TooLong, explaining, fenced, fixing, generating, isSame, places, plain, tail };
