/** The code in an answer that is still being written, for the place in a document where it goes. Pure. */

const { Fences } = require("./fences.js");

/** Characters of an answer without a block that are kept. */
const MOST_HELD = 100_000;

/** Takes an answer piece by piece, gives the code of its first block: on a new line, indented, no line end at its end. */
class NewCode {
  #fences = new Fences();
  #indent;
  #eol;
  #block = 0; // 0: it is still to come; 1: it is here; 2: it is over
  #all = "";
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

  /**
   * @param {string} text the next piece of the answer
   * @returns {string} code to be inserted
   */
  feed(text) {
    if (!this.#block && this.#all.length < MOST_HELD) this.#all += text;
    return this.#take(this.#fences.feed(text));
  }

  /** Nothing follows. An answer without any block was all code. */
  close() {
    const rest = this.#take(this.#fences.close());
    return this.#block ? rest : this.#placed(this.#all);
  }

  /** @param {import("./fences.js").Piece[]} pieces */
  #take(pieces) {
    let code = "";
    for (const { kind, text } of pieces) {
      if (kind === "open") this.#block ||= 1;
      else if (kind === "code" && this.#block === 1) code += this.#placed(text);
      else if (kind === "close" && this.#block === 1) this.#block = 2;
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
