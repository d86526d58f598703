/** What the page shows of one question and its answer. Text is text here: nothing is read as HTML. */

import { Markup } from "./markup.js";
import { say } from "./words.js";

/** @typedef {import("./stream.js").Told} Told */

/** Characters of one block, about: a piece more costs the layout of its block, and not of all the text. */
const BLOCK = 2_000;
/** Characters of a block within one line, and where it may end then. */
const LONG = 8_000;
const BREAK = /[\s\p{P}]/gu;
/** Milliseconds after which text is shown where the page is not drawn, as in a tab behind others. */
const UNDRAWN = 250;

/**
 * @param {string} name
 * @param {string} [className]
 * @param {(Node | string)[]} children
 */
export function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/**
 * @param {string} className
 * @param {string} word
 * @param {() => void} [onClick]
 */
export function button(className, word, onClick) {
  const made = say(element("button", className), word);
  made.setAttribute("type", "button");
  if (onClick) made.addEventListener("click", onClick);
  return made;
}

/** Text that grows, in blocks. Its root's textContent is what was appended, exactly. */
class Blocks {
  #root;
  #wraps;
  #size = 0;
  /** @type {HTMLElement | null} */
  block = null;

  /**
   * @param {HTMLElement} root
   * @param {boolean} wraps whether long lines are shown in several rows
   */
  constructor(root, wraps = true) {
    this.#root = root;
    this.#wraps = wraps;
  }

  /** @param {string} text */
  append(text) {
    while (text) {
      const block = this.open();
      const cut = this.#cut(text);
      const part = text.slice(0, cut || text.length);
      if (block.lastChild instanceof Text) block.lastChild.appendData(part);
      else block.append(part);
      this.#size += part.length;
      if (cut) this.block = null;
      text = text.slice(part.length);
    }
  }

  /**
   * Where the block ends in this text; 0 if it does not. It ends where a line does, so that nobody sees
   * it; within one that is very long, at a blank or a sign: of its hundred rows one is shorter then.
   * @param {string} text
   */
  #cut(text) {
    const line = text.indexOf("\n", Math.max(0, BLOCK - this.#size)) + 1;
    const long = Math.max(0, LONG - this.#size);
    if (!this.#wraps || text.length < long || (line && line <= long)) return line;
    BREAK.lastIndex = long;
    const found = BREAK.test(text) ? BREAK.lastIndex : 0;
    return line && found ? Math.min(line, found) : line || found;
  }

  /** @param {HTMLElement} made a part of the text */
  put(made) {
    this.open().append(made);
    this.#size += made.textContent.length;
  }

  /**
   * Begin a heading: a block that ends with its line.
   * @param {string} marks
   * @param {number} level
   */
  head(marks, level) {
    this.close();
    const block = this.open();
    block.setAttribute("role", "heading");
    block.ariaLevel = String(level);
    block.append(fence(marks));
    this.#size = BLOCK;
  }

  /** The block that is appended to. */
  open() {
    if (!this.block) {
      this.block = element("div", "block");
      if (this.#wraps) this.block.dir = "auto";
      this.#root.append(this.block);
      this.#size = 0;
    }
    return this.block;
  }

  close() {
    if (this.block && !this.block.hasChildNodes()) this.block.remove();
    this.block = null;
  }
}

/** An answer's text, with its code, headings and strong words set apart. The root's textContent is the text, exactly, at any time. */
class AnswerText {
  #root;
  #markup = new Markup();
  #prose;
  /** @type {Blocks | null} */
  #code = null;
  #held = element("span", "held");

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    this.#prose = new Blocks(root);
  }

  /** @param {string} text */
  append(text) {
    this.#show(this.#markup.feed(text));
    if (!this.#markup.held) return;
    this.#held.textContent = this.#markup.held;
    (this.#code ?? this.#prose).open().append(this.#held);
  }

  /** Nothing follows. */
  end() {
    this.#show(this.#markup.close());
  }

  /** @param {import("./markup.js").Piece[]} pieces */
  #show(pieces) {
    this.#held.remove();
    for (const piece of pieces) {
      if (piece.kind === "text") this.#prose.append(piece.text);
      else if (piece.kind === "code") this.#code?.append(piece.text);
      else if (piece.kind === "inline") this.#prose.put(inline(piece.text));
      else if (piece.kind === "strong") this.#prose.put(strong(piece.text));
      else if (piece.kind === "heading") this.#prose.head(piece.text, piece.level ?? 1);
      else if (piece.kind === "open") this.#open(piece);
      else this.#close(piece.text);
    }
  }

  /** @param {import("./markup.js").Piece} piece */
  #open(piece) {
    this.#prose.close();
    const code = element("code");
    code.dir = "ltr";
    const copy = element("button", "copy");
    copy.setAttribute("type", "button");
    // The words come out of attributes, by the style sheet: they are no text of the answer.
    say(copy, "copy.code", {}, "aria-label");
    const bar = element("div", "bar", copy);
    bar.dataset.language = piece.language ?? "";
    const box = element("div", "code", bar, fence(piece.text), element("pre", "", code));
    box.dataset.indent = String(piece.indent ?? 0);
    this.#root.append(box);
    this.#code = new Blocks(code, false);
  }

  /** @param {string} text */
  #close(text) {
    this.#code?.close();
    this.#code = null;
    this.#root.lastElementChild?.append(fence(text));
  }
}

/** @param {string} text that is there, but not seen */
function fence(text) {
  const made = element("span", "hidden fence", text);
  made.ariaHidden = "true";
  return made;
}

/** @param {string} text with its backticks */
function inline(text) {
  return element("code", "", fence("`"), text.slice(1, -1), fence("`"));
}

/** @param {string} text with its asterisks, and perhaps with code */
function strong(text) {
  const parts = text.slice(2, -2).split(/(`[^`]+`)/); // every second one is code
  return element("strong", "", fence("**"), ...parts.map((part, n) => (n % 2 ? inline(part) : part)), fence("**"));
}

/**
 * The code of a block as it is wanted elsewhere: without the blanks of the list that it stands in.
 * @param {HTMLElement} box
 */
export function codeOf(box) {
  const text = box.querySelector("code")?.textContent ?? "";
  const indent = Number(box.dataset.indent);
  return indent ? text.replace(new RegExp(`^ {1,${indent}}`, "gm"), "") : text;
}

/** A question and what becomes of it. */
export class AnswerView {
  #notes = element("div", "notes");
  #body = element("div", "answer");
  #text = new AnswerText(this.#body);
  #outputs = element("div", "outputs");
  #foot = element("div", "foot");
  /** @type {{blocks: Blocks, summary: HTMLElement} | null} */
  #reasoning = null;
  /** @type {{list: HTMLElement, summary: HTMLElement} | null} */
  #thoughts = null;
  #waiting = { chunk: "", reasoning: "" };
  #frame = 0;
  #timer = 0;
  #connection = say(element("p", "connection"), "waiting");
  #whole;
  #onGrow;
  #onRetry;

  /**
   * @param {string} question
   * @param {object} given
   * @param {() => string} given.whole the text of the answer so far
   * @param {(change: () => void) => void} given.onGrow makes a change that makes the page longer
   * @param {() => void} given.onRetry
   */
  constructor(question, { whole, onGrow, onRetry }) {
    this.#whole = whole;
    this.#onGrow = onGrow;
    this.#onRetry = onRetry;
    const asked = element("div", "question", question);
    asked.dir = "auto";
    this.root = element("article", "turn", asked, this.#notes, this.#body, this.#outputs, this.#connection, this.#foot);
    say(this.root, "turn", {}, "aria-label");
    this.root.dataset.state = "running";
    this.root.ariaBusy = "true";
    this.#body.dataset.empty = "";
  }

  /** @param {Told} told the next event */
  apply(told) {
    if (told.type === "chunk" || told.type === "reasoning") {
      this.#waiting[told.type] += told.content;
      this.#schedule();
      return;
    }
    this.#flush(); // what comes later stands below
    this.#onGrow(() => {
      if (told.type === "thought") this.#thought(told.content);
      else if (told.type === "output") this.#outputs.append(output(told));
      else if (told.type === "error") this.#error(told);
      else if (told.type === "final_end") this.#end(told);
    });
  }

  /** @param {number} lost how often in a row the connection was lost; 0: it is there */
  connection(lost, most = 0) {
    if (this.root.dataset.state === "ended") return;
    say(this.#connection, lost ? "reconnecting" : "waiting", { lost, most });
    this.root.dataset.state = lost ? "lost" : "running";
  }

  /** Text is shown once a frame, however many pieces it comes in. */
  #schedule() {
    if (this.#frame) return;
    const flush = () => this.#flush();
    this.#frame = requestAnimationFrame(flush);
    this.#timer = setTimeout(flush, UNDRAWN);
  }

  #flush() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#frame = 0;
    const { chunk, reasoning } = this.#waiting;
    if (!chunk && !reasoning) return;
    this.#waiting = { chunk: "", reasoning: "" };
    this.#onGrow(() => {
      if (reasoning) this.#reason(reasoning);
      if (!chunk) return;
      delete this.#body.dataset.empty;
      this.#text.append(chunk);
    });
  }

  /** @param {string} text */
  #reason(text) {
    if (!this.#reasoning) {
      const body = element("div", "text");
      this.#reasoning = { blocks: new Blocks(body), summary: say(element("summary"), "reasoning") };
      this.#notes.append(element("details", "note", this.#reasoning.summary, body));
    }
    this.#reasoning.blocks.append(text);
  }

  /** @param {string} text */
  #thought(text) {
    if (!this.#thoughts) {
      this.#thoughts = { list: element("ol", "text"), summary: element("summary") };
      this.#notes.append(element("details", "note", this.#thoughts.summary, this.#thoughts.list));
    }
    this.#thoughts.list.append(element("li", "", text));
    say(this.#thoughts.summary, "thoughts", { count: this.#thoughts.list.childElementCount });
  }

  /** @param {Told} told */
  #error(told) {
    const box = element("div", "error", say(element("strong"), `code.${told.code}`));
    box.setAttribute("role", "alert");
    if (told.message) box.append(element("p", "message", told.message));
    box.append(element("code", "", told.code));
    if (told.retryable) box.append(button("retry", "retry", this.#onRetry));
    this.#outputs.after(box);
  }

  /** @param {Told} told */
  #end(told) {
    this.#text.end();
    this.root.dataset.state = "ended";
    this.root.ariaBusy = "false";
    this.#connection.remove();
    if (told.sources?.length) this.#outputs.after(sources(told.sources));
    if (this.#whole()) this.#foot.append(button("copy-answer", "copy.answer"));
    const end = say(element("span", "end"), `end.${told.reason}`);
    this.#foot.append(end);
    const { total_tokens: tokens, duration } = told.metrics ?? {};
    if (Number.isFinite(tokens)) this.#foot.append(say(element("span"), "tokens", { tokens }));
    if (Number.isFinite(duration)) this.#foot.append(say(element("span"), "seconds", { seconds: duration.toFixed(1) }));
    if (told.skipped) this.#foot.append(say(element("span"), "skipped", { count: told.skipped }));
  }
}

/** @param {Told} told what an agent made */
function output({ kind, content }) {
  const title = content.filename ?? content.title ?? content.name;
  const name = typeof title === "string" ? element("span", "name", title) : "";
  const summary = element("summary", "", say(element("span"), `output.${kind}`), " ", name);
  return element("details", "output", summary, element("pre", "", JSON.stringify(content, null, 2)));
}

/** @param {{title?: unknown, url?: unknown, id?: unknown}[]} told */
function sources(told) {
  const list = element("ul");
  const seen = new Set();
  for (const { title, url, id } of told) {
    const name = [title, url, id].find((one) => typeof one === "string" && one !== "");
    if (!name || seen.has(`${name}\n${url}`)) continue; // a document comes once for each part that was used
    seen.add(`${name}\n${url}`);
    list.append(element("li", "", link(String(name), url)));
  }
  const summary = say(element("summary"), "sources", { count: list.childElementCount });
  const made = element("details", "sources", summary, list);
  made.setAttribute("open", "");
  return made;
}

/**
 * A link, if it is one that leads to a web page; the mere name otherwise.
 * @param {string} name
 * @param {unknown} url
 */
function link(name, url) {
  const target = typeof url === "string" ? parse(url) : null;
  if (!target || !["http:", "https:"].includes(target.protocol)) return element("span", "", name);
  const made = element("a", "", name);
  made.setAttribute("href", target.href);
  made.setAttribute("target", "_blank");
  made.setAttribute("rel", "noopener noreferrer");
  return made;
}

/** @param {string} url */
function parse(url) {
  try {
    return new URL(url);
  } catch {
    return null;
  }
}
