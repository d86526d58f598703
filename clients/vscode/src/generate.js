/** Code that is written into the editor while it arrives. */

const vscode = require("vscode");
const { NewCode } = require("./newcode.js");
const { generating } = require("./prompts.js");
const { Refusal } = require("./refusal.js");
const { AnswerStream } = require("./stream.js");
const { randomId } = require("./turn.js");

const { l10n } = vscode;
/** Edits in a row that the editor may refuse, because its document changed in between. */
const TRIES = 20;

/** One piece of code on its way into a document. */
class Generation {
  #document;
  #start; // what was written is from here ...
  #offset; // ... to here
  #writing = "";
  #stream;
  #code;
  #begun = false;
  #unwanted = false;
  /** @type {Promise<void>} */
  ended;

  /**
   * @param {vscode.TextDocument} document
   * @param {number} offset where it goes
   * @param {NewCode} code
   * @param {AnswerStream} stream
   */
  constructor(document, offset, code, stream) {
    this.#document = document;
    this.#start = this.#offset = offset;
    this.#code = code;
    this.#stream = stream;
    this.ended = this.#run();
  }

  async stop() {
    this.#unwanted = true;
    await this.#stream.stop().catch(() => {}); // it stops by itself when nobody reads it
  }

  async #run() {
    const changes = vscode.workspace.onDidChangeTextDocument((change) => this.#follow(change));
    const closing = vscode.workspace.onDidCloseTextDocument((document) => document === this.#document && this.stop());
    try {
      for await (const events of this.#stream.events()) {
        let text = "";
        for (const told of events) {
          if (told.type === "chunk") text += this.#code.feed(told.content);
          else if (told.type === "error") throw new Refusal(told.code, told.message);
          else if (told.type === "final_end") text += this.#code.close();
        }
        if (text) await this.#insert(text);
        if (this.#unwanted) break;
        if (events.at(-1)?.type === "final_end" && this.#code.isEmpty) throw new Refusal("no_code");
      }
      if (this.#document.isClosed) throw new Refusal("closed");
    } finally {
      changes.dispose();
      closing.dispose();
      await this.stop(); // nothing to do where it has ended
    }
  }

  /**
   * Insert at the place, wherever the user is meanwhile. All insertions are one step to undo, but for what the editor cuts in
   * two because the cursor was moved.
   * @param {string} text
   */
  async #insert(text) {
    for (let tried = 0; tried < TRIES; tried++) {
      if (this.#unwanted) return;
      const at = this.#document.positionAt(this.#offset);
      this.#writing = text;
      const editor = vscode.window.visibleTextEditors.find(({ document }) => document === this.#document);
      const done = await (editor
        ? editor.edit((edit) => edit.insert(at, text), { undoStopBefore: !this.#begun, undoStopAfter: false })
        : this.#insertUnseen(at, text)
      ).then((made) => made, () => false); // the editor may be gone by now
      this.#writing = "";
      this.#begun ||= done;
      if (done) return;
    }
    throw new Refusal("not_taken");
  }

  /**
   * @param {vscode.Position} at
   * @param {string} text
   */
  #insertUnseen(at, text) {
    const edit = new vscode.WorkspaceEdit();
    edit.insert(this.#document.uri, at, text);
    return vscode.workspace.applyEdit(edit);
  }

  /** @param {vscode.TextDocumentChangeEvent} change */
  #follow({ document, contentChanges, reason }) {
    if (document !== this.#document || !contentChanges.length) return;
    const [start, end] = [this.#start, this.#offset];
    for (const { rangeOffset: from, rangeLength: gone, text } of contentChanges) {
      const grown = text.length - gone;
      if (this.#writing && from === end && !gone && text === this.#writing) {
        this.#offset += grown;
      } else if (from + gone <= start) {
        this.#start += grown;
        this.#offset += grown;
      } else if (from < end) {
        this.#offset += grown;
        const within = start <= from && from + gone <= end;
        if (within && reason === vscode.TextDocumentChangeReason.Undo) this.#takeBack();
        else if (!within) this.stop(); // the place is gone
      }
    }
  }

  /** A part was undone: the rest is not wanted either. */
  async #takeBack() {
    this.#unwanted = true;
    const written = new vscode.Range(this.#document.positionAt(this.#start), this.#document.positionAt(this.#offset));
    if (!written.isEmpty) {
      const edit = new vscode.WorkspaceEdit();
      edit.delete(this.#document.uri, written);
      await vscode.workspace.applyEdit(edit);
    }
    await this.stop();
  }
}

/** At most one generation in this window. */
class Generator {
  #connection;
  #report;
  /** @type {Generation | null} */
  #running = null;

  /**
   * @param {import("./connection.js").Connection} connection
   * @param {(error: unknown) => void} report
   */
  constructor(connection, report) {
    this.#connection = connection;
    this.#report = report;
  }

  get running() {
    return this.#running !== null;
  }

  async stop() {
    await this.#running?.stop();
  }

  /** @param {vscode.TextEditor} editor */
  async generate(editor) {
    const relay = await this.#connection.relay(); // all that follows is of the document as it is now
    const { document } = editor;
    const { range, indent } = wanted(document, editor.selection);
    const wish = document.getText(range);
    if (!wish.trim()) {
      vscode.window.showInformationMessage(l10n.t("Write a comment that says what the code should do, and put the cursor in it."));
      return;
    }
    const text = document.getText();
    const offset = document.offsetAt(range.end);
    const place = { before: text.slice(0, document.offsetAt(range.start)), after: text.slice(offset), wish };
    const name = vscode.workspace.asRelativePath(document.uri);
    const question = generating({ name, language: document.languageId, ...place });
    const eol = document.eol === vscode.EndOfLine.CRLF ? "\r\n" : "\n";
    const { workspace } = this.#connection;
    const fields = { question, session_id: randomId(), reasoning: "hide", sources: "none", ...(workspace && { workspace }) };
    const stream = new AnswerStream({ key: randomId(), id: "", after: 0 }, fields, relay);
    this.#running?.stop(); // it writes no more from now on
    this.#running = new Generation(document, offset, new NewCode(indent, eol), stream);
    const ended = this.#end(this.#running);
    const shown = { location: vscode.ProgressLocation.Window, title: l10n.t("Generating (Escape stops)") };
    await vscode.window.withProgress(shown, () => ended);
  }

  /** @param {Generation} generation */
  async #end(generation) {
    vscode.commands.executeCommand("setContext", "anythingllmRelay.generating", true);
    try {
      await generation.ended;
    } catch (error) {
      this.#report(error);
    }
    if (this.#running !== generation) return; // another one runs by now
    this.#running = null;
    await vscode.commands.executeCommand("setContext", "anythingllmRelay.generating", false);
  }
}

/**
 * What is wished for: the selection, or the comment at the cursor or just above it. The code goes below.
 * @param {vscode.TextDocument} document
 * @param {vscode.Selection} selection
 */
function wanted(document, selection) {
  let [first, last] = [selection.start.line, selection.end.line];
  if (selection.isEmpty) {
    if (document.lineAt(first).isEmptyOrWhitespace && first > 0) last = --first;
    const mark = commentMark(document.lineAt(first).text);
    const goesOn = (/** @type {number} */ line) => commentMark(document.lineAt(line).text) === mark;
    while (mark && first > 0 && goesOn(first - 1)) first--;
    while (mark && last + 1 < document.lineCount && goesOn(last + 1)) last++;
  }
  const range = new vscode.Range(first, 0, last, document.lineAt(last).text.length);
  return { range, indent: document.lineAt(first).text.slice(0, document.lineAt(first).firstNonWhitespaceCharacterIndex) };
}

/** @param {string} line */
function commentMark(line) {
  return /^\s*(#|\/\/|--|;|%|\*|\/\*|<!--|"""|''')/.exec(line)?.[1] ?? "";
}

module.exports = { Generator };
