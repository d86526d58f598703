/** The code in an answer that is still being written, for the place in a document where it goes. Pure. */

const { Fences } = require("./fences.js");

/** Characters of a first line that are waited for. */
const MOST_FIRST = 200;
const FENCE = /^ {0,12}`/;
// Words before the code, which a model was asked not to write: "Here is the function you want:"
const PROSE = /^\s*[A-Z][^(){}[\]=;<>]* [^(){}[\]=;<>]*[.:!]\s*$/;

/**
 * Takes an answer piece by piece, gives the code in it: on a new line, indented, no line end at its end. That is the first block,
 * or all of an answer that begins with code at once.
 */
class NewCode {
  #fences = new Fences();
  #indent;
  #eol;
  /** @type {"first" | "words" | "block" | "bare" | "over"} in what it is: the first line, words before a block ... */
  #state = "first";
  #first = "";
  #lineStart = true;
  /** @type {string | null} what each line needs; null: not known yet */
  #missing = null;
  #begun = false;
  #line = "\n"; // blanks and line ends that are not known to be wanted

  /**
   * @param {string} indent what the lines of the place begin with
   * @param {string} eol
   */
  constructor(indent = "", eol = "\n") {
    this.#indent = indent;
    this.#eol = eol;
  }

  /** Whether there was no code. */
  get isEmpty() {
    return !this.#begun;
  }

  /**
   * @param {string} text the next piece of the answer
   * @returns {string} code to be inserted
   */
  feed(text) {
    if (this.#state === "bare") return this.#placed(text);
    if (this.#state !== "first") return this.#take(this.#fences.feed(text));
    this.#first += text;
    return this.#begin(false);
  }

  /** Nothing follows. */
  close() {
    const begun = this.#state === "first" ? this.#begin(true) : "";
    return begun + this.#take(this.#fences.close());
  }

  /**
   * See from the first line whether it is code.
   * @param {boolean} last
   */
  #begin(last) {
    const first = this.#first.replace(/^(?:[ \t\r]*\n)+/, "");
    const [line] = first.split("\n", 1);
    const whole = last || first.includes("\n") || first.length > MOST_FIRST;
    if (!line.trim()) return "";
    if (!FENCE.test(line) && /^\s*[A-Z]/.test(line) && !whole) return "";
    this.#state = FENCE.test(line) || PROSE.test(line) ? "words" : "bare";
    return this.#state === "bare" ? this.#placed(first) : this.#take(this.#fences.feed(first));
  }

  /** @param {import("./fences.js").Piece[]} pieces */
  #take(pieces) {
    let code = "";
    for (const { kind, text } of pieces) {
      if (kind === "open" && this.#state === "words") this.#state = "block";
      else if (kind === "code" && this.#state === "block") code += this.#placed(text);
      else if (kind === "close" && this.#state === "block") this.#state = "over";
    }
    return code;
  }

  /** @param {string} text */
  #placed(text) {
    let code = "";
    for (const part of text.match(/\n|[ \t\r]+|[^\n \t\r]+/g) ?? []) {
      const blank = /\s/.test(part[0]);
      if (part === "\n") {
        this.#line = this.#begun ? `${this.#line.replace(/[ \t\r]+$/, "")}\n` : "\n";
        this.#lineStart = true;
      } else if (blank) {
        this.#line += part;
      } else {
        code += this.#before() + part;
        this.#line = "";
        this.#lineStart = false;
        this.#begun = true;
      }
    }
    return code;
  }

  /** What was held back, now that it is known that something follows. */
  #before() {
    if (!this.#lineStart) return this.#line;
    const own = /[ \t]*$/.exec(this.#line)?.[0] ?? "";
    this.#missing ??= own.startsWith(this.#indent) ? "" : this.#indent;
    const ends = this.#line.slice(0, this.#line.length - own.length).replace(/\r/g, "");
    return ends.replace(/\n/g, this.#eol) + this.#missing + own;
  }
}

module.exports = { NewCode };
