/** From the code of an answer to a change of the document. Pure. */

/** Steps of a comparison; texts that differ more are changed as one. */
const MOST_STEPS = 1_000;
/** Languages of blocks that are no code of a file, unless the file is of that language. */
const BESIDE = ["text", "txt", "plaintext", "output", "console", "diff", "sh", "shell", "bash", "shellscript", "traceback"];
/** How much of a block must stand in the code that it replaces, for it to be taken for a part of it. */
const ALIKE = 0.3;
/** New code with fewer lines than this part of the old is meant for a part of it. */
const MOST_LEFT_OUT = 0.7;
/** What is one character to an editor, or one line end. */
const INSEPARABLE = /[\uD800-\uDBFF][\uDC00-\uDFFF]|\r\n/;

/** @typedef {{start: number, end: number, text: string}} Edit offsets in the old text */

/**
 * The block that is most like the code it is for; the last of those that are equally alike.
 * @param {{language: string, code: string, closed: boolean}[]} blocks
 * @param {string} code
 * @param {string} language VS Code's id
 * @returns {string | null}
 */
function choose(blocks, code, language) {
  const old = new Set(lines(code));
  let best = { score: -1, code: /** @type {string | null} */ (null) };
  for (const block of blocks) {
    const label = block.language.toLowerCase();
    if (!block.closed || !block.code.trim() || (BESIDE.includes(label) && label !== language)) continue;
    const own = lines(block.code);
    const score = own.filter((line) => old.has(line)).length;
    if (score >= best.score) best = { score, code: block.code };
  }
  return best.code;
}

/** @param {string} text */
function lines(text) {
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter(Boolean);
}

/**
 * Where in the old code the new one belongs: all of it; or the part from the new one's first line to its last, if the new one
 * has far fewer lines and both are there once.
 * @param {string} old
 * @param {string} fresh
 * @param {boolean} doubtful whether the one may have nothing to do with the other
 * @returns {{start: number, end: number} | null} null where that cannot be told
 */
function place(old, fresh, doubtful = false) {
  const own = lines(fresh);
  const stripped = old.split("\n").map((line) => line.trim());
  const known = new Set(stripped);
  const alike = own.filter((line) => known.has(line)).length >= ALIKE * own.length;
  if (own.length >= stripped.filter(Boolean).length * MOST_LEFT_OUT) return alike || !doubtful ? { start: 0, end: old.length } : null;
  const first = only(stripped, own[0]);
  const last = only(stripped, own[own.length - 1]);
  if (first < 0 || last < first || !alike) return null;
  const starts = lineStarts(old);
  return { start: starts[first], end: starts[last + 1] ?? old.length };
}

/**
 * @param {string[]} list
 * @param {string} one
 */
function only(list, one) {
  const at = list.indexOf(one);
  return at === list.lastIndexOf(one) ? at : -1;
}

/** @param {string} text */
function lineStarts(text) {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

/**
 * The new code as it stands in the place of the old: its indentation, its line ends and its last one.
 * @param {string} old
 * @param {string} fresh
 * @returns {string}
 */
function fitted(old, fresh) {
  const eol = old.includes("\r\n") ? "\r\n" : "\n";
  let text = fresh.replace(/\r\n?/g, "\n").replace(/\n+$/, "");
  const missing = indentation(old).slice(indentation(text).length);
  if (missing && !indentation(text)) text = text.replace(/^(?=[^\n])/gm, missing);
  const end = /(?:\r?\n)*$/.exec(old)?.[0] ?? "";
  return text.replace(/\n/g, eol) + end;
}

/**
 * What all lines that are not blank begin with.
 * @param {string} text
 */
function indentation(text) {
  const all = text.split("\n").filter((line) => line.trim());
  const each = all.map((line) => /^[ \t]*/.exec(line)?.[0] ?? "");
  return each.reduce((shared, one) => (shared.length < one.length ? shared : one), each[0] ?? "");
}

/**
 * The fewest changes of lines that make one text of the other, each as small as it can be.
 * @param {string} old
 * @param {string} fresh
 * @returns {Edit[]} in order, none touching another
 */
function edits(old, fresh) {
  const was = old.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  const is = fresh.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  /** @type {Edit[]} */
  const found = [];
  let [at, done, next] = [0, 0, 0];
  for (const [one, other] of [...matches(was, is), /** @type {[number, number]} */ ([was.length, is.length])]) {
    const gone = was.slice(done, one).join("");
    const come = is.slice(next, other).join("");
    if (gone || come) found.push(trimmed({ start: at, end: at + gone.length, text: come }, old));
    at += gone.length + (was[one]?.length ?? 0);
    [done, next] = [one + 1, other + 1];
  }
  return found;
}

/**
 * Without what stays the same at both its ends.
 * @param {Edit} edit
 * @param {string} old
 * @returns {Edit}
 */
function trimmed({ start, end, text }, old) {
  let from = 0;
  while (start + from < end && from < text.length && old[start + from] === text[from]) from++;
  if (from && INSEPARABLE.test(text.slice(from - 1, from + 1) + old.slice(start + from - 1, start + from + 1))) from--;
  let to = 0;
  const most = Math.min(end - start, text.length) - from;
  while (to < most && old[end - 1 - to] === text[text.length - 1 - to]) to++;
  if (to && INSEPARABLE.test(text.slice(-to - 1).slice(0, 2) + old.slice(end - to - 1, end - to + 1))) to--;
  return { start: start + from, end: end - to, text: text.slice(from, text.length - to) };
}

/**
 * Pairs of lines that are the same in both, as many as can be in order (Myers 1986).
 * @param {string[]} was
 * @param {string[]} is
 * @returns {[number, number][]}
 */
function matches(was, is) {
  let head = 0;
  while (head < was.length && head < is.length && was[head] === is[head]) head++;
  let foot = 0;
  while (foot < was.length - head && foot < is.length - head && was[was.length - 1 - foot] === is[is.length - 1 - foot]) foot++;
  const middle = middles(was.slice(head, was.length - foot), is.slice(head, is.length - foot));
  /** @type {[number, number][]} */
  const pairs = [];
  for (let n = 0; n < head; n++) pairs.push([n, n]);
  for (const [one, other] of middle) pairs.push([one + head, other + head]);
  for (let n = foot; n > 0; n--) pairs.push([was.length - n, is.length - n]);
  return pairs;
}

/**
 * @param {string[]} was
 * @param {string[]} is
 * @returns {[number, number][]}
 */
function middles(was, is) {
  if (!was.length || !is.length) return [];
  /** @type {Map<number, number>} the furthest line of `was` on each diagonal */
  let furthest = new Map([[1, 0]]);
  /** @type {Map<number, number>[]} */
  const trail = [];
  for (let steps = 0; steps <= Math.min(MOST_STEPS, was.length + is.length); steps++) {
    const reached = new Map();
    for (let k = -steps; k <= steps; k += 2) {
      const down = k === -steps || (k !== steps && get(furthest, k - 1) < get(furthest, k + 1));
      let x = down ? get(furthest, k + 1) : get(furthest, k - 1) + 1;
      while (x < was.length && x - k < is.length && was[x] === is[x - k]) x++;
      reached.set(k, x);
      if (x >= was.length && x - k >= is.length) return back([...trail, furthest], steps, was.length, is.length);
    }
    trail.push(furthest);
    furthest = reached;
  }
  return []; // too different
}

/**
 * @param {Map<number, number>[]} trail
 * @param {number} steps
 * @param {number} x
 * @param {number} y
 */
function back(trail, steps, x, y) {
  /** @type {[number, number][]} */
  const pairs = [];
  for (let d = steps; d >= 0; d--) {
    const before = trail[d];
    const k = x - y;
    const down = k === -d || (k !== d && get(before, k - 1) < get(before, k + 1));
    const from = down ? k + 1 : k - 1;
    const [px, py] = d ? [get(before, from), get(before, from) - from] : [0, 0];
    while (x > px && y > py && x > 0 && y > 0) pairs.push([--x, --y]);
    [x, y] = [px, py];
  }
  return pairs.reverse();
}

/**
 * @param {Map<number, number>} map
 * @param {number} k
 */
function get(map, k) {
  return map.get(k) ?? -1;
}

/**
 * Where code stands in a text by now: where it stood, or where else it is, if only there.
 * @param {string} text
 * @param {string} code
 * @param {number} start
 * @returns {number} -1 if it is there no more, or several times
 */
function locate(text, code, start) {
  if (text.startsWith(code, start)) return start;
  const found = text.indexOf(code);
  return code && found === text.lastIndexOf(code) ? found : -1;
}

module.exports = { choose, edits, fitted, locate, place };
