// The chat's view. Text is text here: nothing is read as HTML.

(() => {
  "use strict";

  /** Characters of one block, about: a piece more costs the layout of its block, and not of all the text. */
  const BLOCK = 2_000;

  const editor = acquireVsCodeApi();
  /** @type {Record<string, string>} */
  let words = {};
  /** @type {Map<string, AnswerView>} */
  const answers = new Map();

  /**
   * @param {string} name
   * @param {string} [className]
   * @param {(Node | string)[]} children
   */
  function element(name, className = "", ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  /**
   * @param {string} className
   * @param {string} text
   * @param {() => void} onClick
   */
  function button(className, text, onClick) {
    const made = element("button", className, text);
    made.setAttribute("type", "button");
    made.addEventListener("click", onClick);
    return /** @type {HTMLButtonElement} */ (made);
  }

  /** Text that grows, in blocks. Its root's textContent is what was appended, exactly. */
  class Blocks {
    #root;
    #size = 0;
    /** @type {HTMLElement | null} */
    #block = null;

    /** @param {HTMLElement} root */
    constructor(root) {
      this.#root = root;
    }

    /** @param {string} text */
    append(text) {
      while (text) {
        const block = this.open();
        const line = text.indexOf("\n", Math.max(0, BLOCK - this.#size)) + 1;
        const part = text.slice(0, line || text.length);
        if (block.lastChild instanceof Text) block.lastChild.appendData(part);
        else block.append(part);
        this.#size += part.length;
        if (line) this.#block = null;
        text = text.slice(part.length);
      }
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
      if (!this.#block) {
        this.#block = element("div", "block");
        this.#root.append(this.#block);
        this.#size = 0;
      }
      return this.#block;
    }

    close() {
      if (this.#block && !this.#block.hasChildNodes()) this.#block.remove();
      this.#block = null;
    }
  }

  /** An answer's text, with its code, headings and strong words set apart. The root's textContent is the text, exactly, at any time. */
  class AnswerText {
    #root;
    #prose;
    /** @type {Blocks | null} */
    #code = null;
    #held = element("span", "held");
    #count = 0;
    #id;

    /**
     * @param {HTMLElement} root
     * @param {string} id of the turn
     */
    constructor(root, id) {
      this.#root = root;
      this.#prose = new Blocks(root);
      this.#id = id;
    }

    /**
     * @param {any[]} pieces
     * @param {string} held
     */
    append(pieces, held) {
      this.#held.remove();
      for (const piece of pieces) {
        if (piece.kind === "text") this.#prose.append(piece.text);
        else if (piece.kind === "code") this.#code?.append(piece.text);
        else if (piece.kind === "inline") this.#prose.put(inline(piece.text));
        else if (piece.kind === "strong") this.#prose.put(strong(piece.text));
        else if (piece.kind === "heading") this.#prose.head(piece.text, piece.level);
        else if (piece.kind === "open") this.#open(piece);
        else this.#close(piece.text);
      }
      if (!held) return;
      this.#held.textContent = held;
      (this.#code ?? this.#prose).open().append(this.#held);
    }

    /** @param {any} piece */
    #open(piece) {
      this.#prose.close();
      const code = element("code");
      code.dir = "ltr";
      const box = element("div", "code", bar(this.#id, this.#count++, piece.language), fence(piece.text), element("pre", "", code));
      this.#root.append(box);
      this.#code = new Blocks(code);
    }

    /** @param {string} text */
    #close(text) {
      this.#code?.close();
      this.#code = null;
      this.#root.lastElementChild?.append(fence(text));
    }
  }

  /**
   * The buttons of a block. Their words come out of attributes, by the style sheet: they are no text of the answer.
   * @param {string} id
   * @param {number} block
   * @param {string} language
   */
  function bar(id, block, language) {
    const made = element("div", "bar");
    made.dataset.language = language ?? "";
    for (const type of ["copy", "insert", "apply"]) {
      const one = button(type, "", () => {
        editor.postMessage({ type, id, block });
        if (type === "copy") confirm(one);
      });
      one.ariaLabel = words[type];
      one.title = words[`${type}How`] ?? "";
      made.append(one);
    }
    return made;
  }

  /** @param {HTMLElement} copied */
  function confirm(copied) {
    const before = copied.ariaLabel;
    copied.ariaLabel = words.copied;
    setTimeout(() => (copied.ariaLabel = before), 1500);
  }

  /** @param {string} text that is there, but not seen */
  function fence(text) {
    const made = element("span", "hidden", text);
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
   * @param {string} className
   * @param {string} summary
   * @param {Node[]} body
   */
  function folded(className, summary, ...body) {
    return element("details", className, element("summary", "", summary), ...body);
  }

  /** A question and its answer. */
  class AnswerView {
    #id;
    #notes = element("div", "notes");
    #body = element("div", "text");
    #after = element("div", "after");
    #foot = element("p", "foot");
    #text;
    /** @type {Blocks | null} */
    #reasoning = null;
    /** @type {HTMLElement | null} */
    #progress = null;
    #outputs = 0;

    /** @param {any} turn */
    constructor(turn) {
      this.#id = turn.id;
      this.#text = new AnswerText(this.#body, turn.id);
      this.#body.dir = "auto";
      const asked = element("div", "question", element("div", "title", turn.title));
      asked.dir = "auto";
      if (turn.question) asked.append(folded("prompt", words.prompt, element("pre", "", turn.question)));
      this.root = element("article", "answer", asked, this.#notes, this.#body, this.#after, this.#foot);
      this.root.dataset.target = String(turn.target);
      this.grow(turn);
    }

    /**
     * @param {any} turn
     * @param {number} [lost]
     */
    grow(turn, lost = 0) {
      this.#reason(turn.reasoning);
      this.#text.append(turn.pieces, turn.held);
      if (turn.progress) this.#advance(turn);
      const ended = turn.state !== "running";
      if (ended && this.root.dataset.state !== turn.state) this.#end(turn);
      this.root.dataset.state = turn.state;
      this.root.ariaBusy = String(!ended);
      if (!ended) this.#foot.textContent = lost ? words.lost : this.#body.hasChildNodes() ? words.running : words.waiting;
    }

    /** @param {string} text */
    #reason(text) {
      if (!text) return;
      if (!this.#reasoning) {
        const body = element("div", "body");
        this.#reasoning = new Blocks(body);
        this.#notes.append(folded("reasoning", words.reasoning, body));
      }
      this.#reasoning.append(text);
    }

    /** @param {any} turn with all of an agent's */
    #advance({ progress, outputs }) {
      for (; this.#outputs < outputs.length; this.#outputs++) {
        const { kind, text } = outputs[this.#outputs];
        this.#after.append(folded("output", `${words.output}: ${kind}`, element("pre", "", text)));
      }
      if (!progress.length) return;
      if (!this.#progress) {
        this.#progress = element("ol");
        this.#notes.append(folded("progress", words.progress, this.#progress));
      }
      for (const text of progress.slice(this.#progress.childElementCount)) this.#progress.append(element("li", "", text));
    }

    /** @param {any} turn */
    #end({ state, failure, sources, note }) {
      if (failure) this.#after.append(this.#failure(failure));
      if (sources.length) {
        const list = element("ul", "sources", ...sources.map(source));
        this.#after.append(element("div", "heading", words.sources), list);
      }
      this.#foot.textContent = [words[state], note].filter(Boolean).join(" · ");
      if (this.#body.textContent) {
        const copy = button("copy-answer", words.copyAnswer, () => editor.postMessage({ type: "copy", id: this.#id, block: null }));
        this.#foot.append(" ", copy);
      }
    }

    /** @param {any} failure */
    #failure({ words: said, message, code }) {
      const box = element("div", "error", element("strong", "", said));
      box.setAttribute("role", "alert");
      if (message) box.append(element("p", "message", message));
      box.append(element("span", "code", code));
      const actions = element("div", "actions", button("retry", words.retry, () => editor.postMessage({ type: "retry", id: this.#id })));
      if (["unreachable", "no_relay", "connection_lost"].includes(code)) actions.append(commandButton("howToStart"));
      if (code === "unauthorized") actions.append(commandButton("setKey"));
      box.append(actions);
      return box;
    }
  }

  /** @param {string} name */
  function commandButton(name) {
    return button("command", words[name], () => editor.postMessage({ type: "command", text: name }));
  }

  /** @param {{title: string, url: string}} told */
  function source({ title, url }) {
    if (!url) return element("li", "", title);
    const link = element("a", "", title);
    link.setAttribute("href", url);
    link.addEventListener("click", (click) => {
      click.preventDefault();
      editor.postMessage({ type: "open", text: url });
    });
    return element("li", "", link);
  }

  const log = element("main", "log");
  log.tabIndex = 0; // the arrow keys scroll it
  const status = element("p");
  status.id = "status";
  status.setAttribute("role", "status");
  const question = document.createElement("textarea");
  question.id = "question";
  question.rows = 3;
  const send = button("primary", "", ask);
  send.id = "send";
  const stop = button("", "", () => editor.postMessage({ type: "stop" }));
  stop.id = "stop";
  const form = element("form", "ask", question, element("div", "buttons", send, stop));
  form.addEventListener("submit", (submit) => submit.preventDefault());
  document.body.append(log, element("footer", "", status, form));

  function ask() {
    if (send.disabled || !question.value.trim()) return;
    editor.postMessage({ type: "ask", text: question.value });
    question.value = "";
    remember();
  }

  question.addEventListener("keydown", (key) => {
    if (key.key !== "Enter" || key.shiftKey || key.isComposing) return;
    key.preventDefault();
    ask();
  });
  document.addEventListener("keydown", (key) => {
    if (key.key === "Escape" && !key.isComposing && !stop.hidden) editor.postMessage({ type: "stop" });
  });
  question.addEventListener("input", remember);

  /** What was typed but not asked outlives the view. */
  function remember() {
    editor.setState({ draft: question.value });
  }

  function update() {
    const running = [...answers.values()].some(({ root }) => root.dataset.state === "running");
    send.disabled = running;
    stop.hidden = !running;
    log.classList.toggle("empty", answers.size === 0);
  }

  /** Change what is shown; who reads its end goes on to see it. @param {() => void} change */
  function growing(change) {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    change();
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  /** @param {any} turn */
  function start(turn) {
    const view = new AnswerView(turn);
    answers.set(turn.id, view);
    log.append(view.root);
  }

  /** @param {any} message */
  function show(message) {
    words = message.words;
    question.ariaLabel = words.question;
    question.placeholder = words.placeholder;
    send.textContent = words.send;
    stop.textContent = words.stop;
    log.ariaLabel = words.conversation;
    answers.clear();
    log.replaceChildren(element("div", "intro", element("strong", "", words.intro), element("p", "", words.introHow)));
    for (const turn of message.turns) start(turn);
    log.scrollTop = log.scrollHeight;
  }

  /** @param {any} message */
  function tell({ health, words: said }) {
    status.textContent = said;
    status.dataset.health = health;
    if (health === "noRelay") status.append(" ", commandButton("howToStart"));
    if (health === "needsKey") status.append(" ", commandButton("setKey"));
  }

  window.addEventListener("message", ({ data }) => {
    if (data.type === "show") show(data);
    else if (data.type === "start") {
      start(data.turn);
      log.scrollTop = log.scrollHeight;
    } else if (data.type === "grow") growing(() => answers.get(data.turn.id)?.grow(data.turn, data.lost));
    else if (data.type === "status") tell(data);
    else if (data.type === "focus") question.focus();
    update();
  });

  question.value = editor.getState()?.draft ?? "";
  update();
  editor.postMessage({ type: "ready" });
})();
