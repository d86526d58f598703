/** What is asked about code: to fix it, to explain it. */

const vscode = require("vscode");
const { choose } = require("./edits.js");
const { blocks } = require("./fences.js");
const { explaining, fixing, isSame, places, plain, tail } = require("./prompts.js");
const { SCHEME } = require("./proposals.js");
const { Refusal } = require("./refusal.js");

const { l10n } = vscode;
/** Lines of a file that are asked about as a whole; of longer ones, so many around the place. */
const WHOLE = 200;
const AROUND = 60;
/** Places of an output that are looked for in the workspace. */
const MOST_PLACES = 50;
const SEVERITIES = ["error", "warning", "information", "hint"];

/** @implements {vscode.CodeActionProvider} */
class Assistant {
  static kinds = [vscode.CodeActionKind.QuickFix, vscode.CodeActionKind.RefactorRewrite];
  #chat;
  #view;
  #proposals;

  /**
   * @param {vscode.ExtensionContext} context
   * @param {import("./chat.js").Chat} chat
   * @param {import("./view.js").ChatView} view
   * @param {import("./proposals.js").Proposals} proposals
   * @param {(error: unknown) => unknown} report
   */
  constructor(context, chat, view, proposals, report) {
    this.#chat = chat;
    this.#view = view;
    this.#proposals = proposals;
    context.subscriptions.push(
      chat.onEnd((turn) => this.#ended(turn).catch(report)),
      vscode.languages.registerCodeActionsProvider("*", this, { providedCodeActionKinds: Assistant.kinds }),
    );
  }

  /**
   * @param {vscode.TextDocument} document
   * @param {vscode.Range | vscode.Selection} range
   * @param {vscode.CodeActionContext} context
   */
  provideCodeActions(document, range, { diagnostics }) {
    if (document.uri.scheme === SCHEME) return [];
    const actions = diagnostics.map((diagnostic) => {
      const action = new vscode.CodeAction(l10n.t("Fix with AnythingLLM: {0}", short(diagnostic.message)), vscode.CodeActionKind.QuickFix);
      action.diagnostics = [diagnostic];
      action.command = { command: "anythingllmRelay.fix", title: action.title, arguments: [document.uri, diagnostic.range] };
      return action;
    });
    if (range.isEmpty) return actions;
    for (const [name, title] of [
      ["fix", l10n.t("Fix with AnythingLLM")],
      ["explain", l10n.t("Explain with AnythingLLM")],
    ]) {
      const action = new vscode.CodeAction(title, vscode.CodeActionKind.RefactorRewrite);
      action.command = { command: `anythingllmRelay.${name}`, title };
      actions.push(action);
    }
    return actions;
  }

  /**
   * Ask for a correction of the selection, of what is around a diagnostic, or of the file.
   * @param {vscode.Uri} [uri] of a diagnostic
   * @param {vscode.Range} [place] of a diagnostic
   */
  async fix(uri, place) {
    const editor = vscode.window.activeTextEditor;
    if (uri && place) {
      const document = await vscode.workspace.openTextDocument(uri);
      const only = (/** @type {vscode.Diagnostic} */ { range }) => range.intersection(place) !== undefined;
      await this.#fix(document, around(document, place.start.line), "", only);
    } else if (editor) {
      await this.#fix(editor.document, lines(editor));
    } else {
      vscode.window.showInformationMessage(l10n.t("Open the file that should be fixed."));
    }
  }

  /** Ask about what a program or its tests said: the clipboard's text, with the file that it names. */
  async fixOutput() {
    const output = await vscode.env.clipboard.readText();
    if (output.trim()) await this.#fixSaid(output);
    else vscode.window.showInformationMessage(l10n.t("Copy what the program or the tests said, then choose this again."));
  }

  /** The same, with what is selected in the terminal. */
  async fixTerminal() {
    const { clipboard } = vscode.env;
    const before = await clipboard.readText();
    await clipboard.writeText(""); // what is in it may be a secret: where nothing is selected, nothing is copied
    await vscode.commands.executeCommand("workbench.action.terminal.copySelection");
    const output = await clipboard.readText();
    await clipboard.writeText(before);
    if (output.trim()) await this.#fixSaid(output);
    else vscode.window.showInformationMessage(l10n.t("Select in the terminal what the program or the tests said, then choose this again."));
  }

  /** @param {string} said */
  async #fixSaid(said) {
    const output = tail(plain(said).trim());
    const named = await this.#named(output);
    const document = named?.document ?? vscode.window.activeTextEditor?.document;
    if (document) await this.#fix(document, around(document, (named?.line ?? 1) - 1), output);
    else await this.#ask(l10n.t("Explain this output"), fixing(null, [], output), null);
  }

  async explain() {
    const editor = vscode.window.activeTextEditor;
    if (!editor) {
      vscode.window.showInformationMessage(l10n.t("Open the file that should be explained."));
      return;
    }
    const { document } = editor;
    const { range, code } = part(document, lines(editor));
    const title = l10n.t("Explain {0}", described(code));
    await this.#ask(title, explaining(code, diagnosticsIn(document, range)), null);
  }

  /**
   * Show what a block of an answer would change: what the question was about, or what is selected.
   * @param {string} code
   * @param {import("./turn.js").Target | null} target
   */
  async apply(code, target) {
    const editor = vscode.window.activeTextEditor;
    const selected = editor && !editor.selection.isEmpty ? part(editor.document, lines(editor)).target : null;
    if (target && (!selected || selected.uri !== target.uri)) await this.#proposals.propose(code, target);
    else if (selected) await this.#proposals.propose(code, selected, "selected");
    else if (editor) await this.#proposals.propose(code, part(editor.document, lines(editor)).target, "open");
    else vscode.window.showInformationMessage(l10n.t("Open the file, and select what the code should replace."));
  }

  /** @param {string} code */
  async insert(code) {
    const editor = vscode.window.activeTextEditor;
    if (!editor) {
      vscode.window.showInformationMessage(l10n.t("Open the file, and put the cursor where the code belongs."));
      return;
    }
    if (!(await editor.edit((edit) => edit.replace(editor.selection, code.replace(/\n$/, ""))))) throw new Refusal("not_taken");
    await vscode.window.showTextDocument(editor.document, editor.viewColumn);
  }

  /**
   * @param {vscode.TextDocument} document
   * @param {vscode.Range} range of whole lines
   * @param {string} output
   * @param {(diagnostic: vscode.Diagnostic) => boolean} which diagnostics are told
   */
  async #fix(document, range, output = "", which = () => true) {
    const { code, target } = part(document, range);
    if (!code.text.trim()) {
      vscode.window.showInformationMessage(l10n.t("There is no code to fix."));
      return;
    }
    const question = fixing(code, diagnosticsIn(document, range, which), output);
    await this.#ask(l10n.t("Fix {0}", described(code)), question, target);
  }

  /**
   * @param {string} title
   * @param {string} question
   * @param {import("./turn.js").Target | null} target
   */
  async #ask(title, question, target) {
    this.#chat.ask(title, question, target);
    await this.#view.focus();
  }

  /**
   * The file of the workspace that an output names last.
   * @param {string} output
   */
  async #named(output) {
    const folders = vscode.workspace.workspaceFolders ?? [];
    for (const { path, line } of places(output).reverse().slice(0, MOST_PLACES)) {
      const open = vscode.workspace.textDocuments.find(({ uri }) => vscode.workspace.getWorkspaceFolder(uri) && isSame(uri.path, path));
      if (open) return { document: open, line };
      for (const { uri: folder } of folders) {
        const absolute = /^(\/|[A-Za-z]:[\\/])/.test(path);
        const uri = absolute ? folder.with({ path: path.replace(/\\/g, "/").replace(/^([A-Za-z]:)/, "/$1") }) : vscode.Uri.joinPath(folder, path);
        if (!vscode.workspace.getWorkspaceFolder(uri)) continue; // nothing else is sent
        const document = await vscode.workspace.openTextDocument(uri).then((found) => found, () => null);
        if (document) return { document, line };
      }
    }
    return null;
  }

  /** @param {import("./turn.js").Turn} turn */
  async #ended({ kept: { state, target }, pieces }) {
    if (state !== "complete" || !target) return;
    const code = choose(blocks(pieces), target.code, target.language);
    if (code !== null) await this.#proposals.propose(code, target);
  }
}

/**
 * The lines that are selected; all of them where nothing is.
 * @param {vscode.TextEditor} editor
 */
function lines({ document, selection }) {
  if (selection.isEmpty) return new vscode.Range(0, 0, document.lineCount, 0);
  const last = selection.end.character === 0 && selection.end.line > selection.start.line ? selection.end.line - 1 : selection.end.line;
  return new vscode.Range(selection.start.line, 0, last + 1, 0);
}

/**
 * @param {vscode.TextDocument} document
 * @param {number} line
 */
function around(document, line) {
  if (document.lineCount <= WHOLE) return new vscode.Range(0, 0, document.lineCount, 0);
  return new vscode.Range(Math.max(0, line - AROUND), 0, Math.min(document.lineCount, line + AROUND + 1), 0);
}

/**
 * @param {vscode.TextDocument} document
 * @param {vscode.Range} lines
 */
function part(document, lines) {
  const range = document.validateRange(lines);
  const text = document.getText(range);
  const start = document.offsetAt(range.start);
  const whole = text.length === document.getText().length;
  const { languageId: language, uri } = document;
  /** @type {import("./prompts.js").Code} */
  const code = { name: vscode.workspace.asRelativePath(uri), language, text, first: range.start.line + 1, whole };
  /** @type {import("./turn.js").Target} */
  const target = { uri: uri.toString(), start, code: text, language };
  return { range, code, target };
}

/**
 * @param {vscode.TextDocument} document
 * @param {vscode.Range} range
 * @param {(diagnostic: vscode.Diagnostic) => boolean} which
 * @returns {import("./prompts.js").Diagnostic[]}
 */
function diagnosticsIn({ uri }, range, which = () => true) {
  const found = vscode.languages.getDiagnostics(uri).filter((one) => range.contains(one.range.start) && which(one));
  return found
    .sort((one, other) => one.severity - other.severity || one.range.start.line - other.range.start.line)
    .map(({ range: { start }, severity, message, source, code }) => {
      const name = typeof code === "object" ? code.value : code;
      return { line: start.line + 1, severity: SEVERITIES[severity], message, source: [source, name].filter(Boolean).join(" ") };
    });
}

/** @param {import("./prompts.js").Code} code */
function described({ name, first, text, whole }) {
  const last = first + text.replace(/\r?\n$/, "").split("\n").length - 1;
  if (whole) return name;
  return first === last ? l10n.t("{0}, line {1}", name, first) : l10n.t("{0}, lines {1} to {2}", name, first, last);
}

/** @param {string} text */
function short(text) {
  const [line] = text.split("\n");
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

module.exports = { Assistant };
