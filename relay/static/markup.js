/**
 * Where code, headings and strong words begin and end in an answer that is still being written. No DOM in here.
 *
 * Of Markdown are known blocks fenced with ```, `# headings`, and within a line `code` and `**strong**`;
 * all else is text. The pieces, joined, are always the text as it came.
 */

/**
 * `open` and `close` are the lines of the fences, `inline` has its backticks, `strong` its asterisks and
 * perhaps `code` in it. `heading` are the marks; what follows in its line is the heading.
 * @typedef {object} Piece
 * @property {"text" | "inline" | "strong" | "heading" | "open" | "code" | "close"} kind
 * @property {string} text
 * @property {string} [language] of `open`; may be empty
 * @property {number} [indent] of `open`: the blanks before the fence
 * @property {number} [level] of `heading`: 1 to 6
 */

/** Characters that may be held back until it is known what they are. */
const MOST_HELD = 200;

// Lists indent the fences of their items.
const OPENING = /^( {0,12})(`{3,})([^`]*)$/;
const MAY_OPEN = /^(?: {0,12}(?:`{0,2}|`{3,}[^`]*)|#{1,6}[ \t]{0,12})$/;
const CLOSING = /^( *)(`{3,})[ \t\r]*$/;
const MAY_CLOSE = /^( *)`*[ \t\r]*$/;
const HEADING = /^(#{1,6})[ \t]{1,12}(?=\S)/;
const SPECIAL = /[`*\n]/g;
const RUN = /^(?:`+|\*+)/;
const INLINE = /^`[^`\n]+`/;
// Each of its characters can be read in one way only, so the time is that of its length.
const STRONG = /^\*\*(?![\s*])(?:[^`*\n]|`[^`\n]+`|\*(?!\*))+\*\*(?!\*)/;
const MAY_BE_EITHER = /^(?:`+|`[^`\n]*|\*+|\*\*(?![\s*])(?:[^`*\n]|`[^`\n]+`|\*(?!\*))*(?:`[^`\n]*|\*{0,2}))$/;

/** Cuts a text, which comes piece by piece, into text and code, each character once. */
export class Markup {
  #held = "";
  /** The character before what is held. */
  #before = "";
  #lineStart = true;
  /** @type {{indent: number, ticks: number} | null} */
  #fence = null;

  /** What came but is not decided yet; at most some two hundred characters. */
  get held() {
    return this.#held;
  }

  /**
   * Return what is decided by now.
   * @param {string} text
   */
  feed(text) {
    return this.#cut(this.#held + text, false);
  }

  /** Return what was held back: nothing follows. */
  close() {
    return this.#cut(this.#held, true);
  }

  /**
   * @param {string} data
   * @param {boolean} last
   */
  #cut(data, last) {
    /** @type {Piece[]} */
    const pieces = [];
    let at = 0;
    while (at < data.length) {
      const next = this.#lineStart ? this.#line(data, at, last, pieces) : this.#within(data, at, last, pieces);
      if (next < 0) break;
      at = next;
    }
    this.#held = data.slice(at);
    this.#before = data[at - 1] ?? this.#before;
    return pieces;
  }

  /**
   * At the start of a line: take it if it is a fence, or a heading's marks. Returns where to go on; -1 to
   * wait for more.
   * @param {string} data
   * @param {number} at
   * @param {boolean} last
   * @param {Piece[]} pieces
   */
  #line(data, at, last, pieces) {
    const end = data.indexOf("\n", at);
    const line = data.slice(at, end < 0 ? data.length : end);
    const next = end < 0 ? data.length : end + 1;
    if (end >= 0 || last) {
      if (this.#takeFence(line, data.slice(at, next), pieces)) return next;
    } else if (line.length <= MOST_HELD && this.#mayBeMore(line)) {
      return -1;
    }
    this.#lineStart = false;
    const heading = this.#fence ? null : HEADING.exec(line);
    if (!heading) return at;
    pieces.push({ kind: "heading", text: heading[0], level: heading[1].length });
    return at + heading[0].length;
  }

  /**
   * @param {string} line
   * @param {string} text with its line end
   * @param {Piece[]} pieces
   */
  #takeFence(line, text, pieces) {
    const found = (this.#fence ? CLOSING : OPENING).exec(line);
    if (!found || line.length > MOST_HELD) return false; // as it would be if it came piece by piece
    const indent = found[1].length;
    const ticks = found[2].length;
    if (this.#fence) {
      if (indent > this.#fence.indent + 3 || ticks < this.#fence.ticks) return false;
      this.#fence = null;
      pieces.push({ kind: "close", text });
    } else {
      this.#fence = { indent, ticks };
      const language = found[3].trim().split(/\s/)[0].slice(0, 40);
      pieces.push({ kind: "open", text, language, indent });
    }
    return true;
  }

  /** @param {string} line */
  #mayBeMore(line) {
    if (!this.#fence) return MAY_OPEN.test(line);
    const found = MAY_CLOSE.exec(line);
    return found !== null && found[1].length <= this.#fence.indent + 3;
  }

  /**
   * In a line: take up to its end, or to where words in backticks or asterisks end.
   * @param {string} data
   * @param {number} at
   * @param {boolean} last
   * @param {Piece[]} pieces
   */
  #within(data, at, last, pieces) {
    const special = this.#fence ? data.indexOf("\n", at) : find(data, at);
    if (special < 0) return this.#take(data, at, data.length, pieces);
    if (data[special] === "\n") {
      this.#lineStart = true;
      return this.#take(data, at, special + 1, pieces);
    }
    if (special > at) return this.#take(data, at, special, pieces);
    const rest = data.slice(at, at + MOST_HELD + 1); // all that it depends on, however the text is cut
    if (!last && rest.length <= MOST_HELD && MAY_BE_EITHER.test(rest)) return -1;
    const inline = INLINE.exec(rest)?.[0];
    if (inline) {
      pieces.push({ kind: "inline", text: inline });
      return at + inline.length;
    }
    const strong = STRONG.exec(rest)?.[0];
    if (strong && isStrong(data[at - 1] ?? this.#before, strong, rest[strong.length] ?? "")) {
      pieces.push({ kind: "strong", text: strong });
      return at + strong.length;
    }
    return this.#take(data, at, at + /** @type {RegExpExecArray} */ (RUN.exec(rest))[0].length, pieces);
  }

  /**
   * @param {string} data
   * @param {number} from
   * @param {number} to
   * @param {Piece[]} pieces
   */
  #take(data, from, to, pieces) {
    const kind = this.#fence ? "code" : "text";
    const text = data.slice(from, to);
    const before = pieces.at(-1);
    if (before?.kind === kind) before.text += text;
    else pieces.push({ kind, text });
    return to;
  }
}

/**
 * Whether asterisks set words apart: no blank is inside of them, and they are no power, as in x**2 + y**2.
 * @param {string} before the character before them; may be empty
 * @param {string} strong
 * @param {string} after the character after them; may be empty
 */
function isStrong(before, strong, after) {
  const first = before + strong[2];
  const last = strong.at(-3) + after;
  return strong.length <= MOST_HELD && !/^\s/.test(last) && !/^\w[!-~]/.test(first) && !/^[!-~]\w/.test(last);
}

/**
 * @param {string} data
 * @param {number} from
 */
function find(data, from) {
  SPECIAL.lastIndex = from;
  return SPECIAL.exec(data)?.index ?? -1;
}
