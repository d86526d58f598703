/** Changes that are shown as diffs, and accepted or rejected. */

const vscode = require("vscode");
const { edits, fitted, locate, place } = require("./edits.js");

const { l10n } = vscode;
const SCHEME = "anythingllm-proposal";

/**
 * A change of the document at `uri`: what stands where `code` does, at or around `start`, becomes `text`.
 * @typedef {{uri: vscode.Uri, start: number, code: string, text: string}} Proposal
 */

/** @implements {vscode.TextDocumentContentProvider} */
class Proposals {
  /** @type {Map<string, Proposal>} by the address of the proposed document */
  #proposals = new Map();
  #count = 0;
  #changed = new vscode.EventEmitter();
  onDidChange = this.#changed.event;

  /** @param {vscode.ExtensionContext} context */
  constructor(context) {
    context.subscriptions.push(
      this.#changed,
      vscode.workspace.registerTextDocumentContentProvider(SCHEME, this),
      vscode.workspace.onDidChangeTextDocument(({ document }) => this.#refresh(document)),
      vscode.window.tabGroups.onDidChangeTabs(({ closed }) => {
        for (const tab of closed) if (!isOpen(address(tab))) this.#proposals.delete(address(tab)); // else it was moved
        this.#mark();
      }),
      vscode.window.tabGroups.onDidChangeTabGroups(() => this.#mark()),
    );
    close(() => true); // what a window before this one left open
  }

  /** @param {vscode.Uri} uri */
  async provideTextDocumentContent(uri) {
    const proposal = this.#proposals.get(uri.toString());
    if (!proposal) return "";
    const document = await vscode.workspace.openTextDocument(proposal.uri);
    return changed(document.getText(), proposal) ?? document.getText();
  }

  /**
   * Show what code of an answer would change. Says so where it cannot be told what.
   * @param {string} fresh
   * @param {import("./turn.js").Target} target
   * @param {"about" | "selected" | "open"} how the answer is about the target; or the user chose it; or it is the file that is open
   */
  async propose(fresh, target, how = "about") {
    const uri = vscode.Uri.parse(target.uri);
    const document = await vscode.workspace.openTextDocument(uri).then((found) => found, () => null);
    if (!document) {
      vscode.window.showWarningMessage(l10n.t("{0} is not there any more. The code is in the chat.", vscode.workspace.asRelativePath(uri)));
      return;
    }
    const start = locate(document.getText(), target.code, target.start);
    if (start < 0) {
      vscode.window.showWarningMessage(
        l10n.t("{0} was changed where the answer belongs. The code is in the chat.", vscode.workspace.asRelativePath(uri)),
      );
      return;
    }
    const where = how === "selected" ? { start: 0, end: target.code.length } : place(target.code, fresh, how === "open");
    if (!where) {
      vscode.window.showInformationMessage(l10n.t("Select in {0} what the code should replace, then choose Apply.", vscode.workspace.asRelativePath(uri)));
      return;
    }
    const code = target.code.slice(where.start, where.end);
    const text = fitted(code, fresh);
    if (text === code) {
      vscode.window.showInformationMessage(l10n.t("The answer changes nothing in {0}.", vscode.workspace.asRelativePath(uri)));
      return;
    }
    const proposed = vscode.Uri.from({ scheme: SCHEME, path: uri.path, query: String(++this.#count) });
    close((one) => this.#proposals.get(one)?.uri.toString() === uri.toString()); // one at a time for each file
    this.#proposals.set(proposed.toString(), { uri, start: start + where.start, code, text });
    const other = await vscode.workspace.openTextDocument(proposed);
    if (other.languageId !== document.languageId) await vscode.languages.setTextDocumentLanguage(other, document.languageId); // a notebook's cell
    const title = l10n.t("{0}: proposed change", uri.path.split("/").pop() ?? "");
    await vscode.commands.executeCommand("vscode.diff", uri, proposed, title, { preview: false });
    this.#mark();
  }

  /** Make the change that is shown: one step to undo. */
  async accept() {
    const shown = this.#shown();
    if (!shown) return;
    const { address: at, proposal } = shown;
    const document = await vscode.workspace.openTextDocument(proposal.uri);
    const editor = await vscode.window.showTextDocument(document);
    const now = document.getText();
    const then = changed(now, proposal);
    if (then === null) {
      vscode.window.showErrorMessage(
        l10n.t("{0} was changed where the proposal belongs. Nothing was done.", vscode.workspace.asRelativePath(proposal.uri)),
      );
      return;
    }
    await editor.edit((edit) => {
      for (const { start, end, text } of edits(now, then)) edit.replace(new vscode.Range(document.positionAt(start), document.positionAt(end)), text);
    });
    if (document.getText() !== then) { // an editor that is read-only says that it has made it
      vscode.window.showErrorMessage(l10n.t("The editor did not take the change of {0}.", vscode.workspace.asRelativePath(proposal.uri)));
      return;
    }
    await close((one) => one === at);
  }

  /** Forget the change that is shown. */
  async reject() {
    const shown = this.#shown();
    if (shown) await close((one) => one === shown.address);
  }

  /** The proposal in the editor that is active, or the only one. */
  #shown() {
    const tab = vscode.window.tabGroups.activeTabGroup.activeTab;
    const active = tab ? address(tab) : "";
    const [only] = this.#proposals.size === 1 ? this.#proposals.keys() : [""];
    const at = this.#proposals.has(active) ? active : only;
    const proposal = this.#proposals.get(at);
    return proposal && { address: at, proposal };
  }

  /** @param {vscode.TextDocument} document */
  #refresh({ uri }) {
    for (const [at, proposal] of this.#proposals) {
      if (proposal.uri.toString() === uri.toString()) this.#changed.fire(vscode.Uri.parse(at));
    }
  }

  /** Tell the keys and the menus. */
  #mark() {
    vscode.commands.executeCommand("setContext", "anythingllmRelay.proposal", this.#shown() !== undefined);
  }
}

/**
 * @param {string} now
 * @param {Proposal} proposal
 * @returns {string | null} null where it cannot be made any more
 */
function changed(now, { code, start, text }) {
  const at = locate(now, code, start);
  return at < 0 ? null : now.slice(0, at) + text + now.slice(at + code.length);
}

/**
 * The address of the proposed document that a tab shows, or nothing.
 * @param {vscode.Tab} tab
 */
function address({ input }) {
  return input instanceof vscode.TabInputTextDiff && input.modified.scheme === SCHEME ? input.modified.toString() : "";
}

function tabs() {
  return vscode.window.tabGroups.all.flatMap((group) => group.tabs);
}

/** @param {string} at */
function isOpen(at) {
  return tabs().some((tab) => address(tab) === at);
}

/** @param {(address: string) => boolean} which */
async function close(which) {
  const ours = tabs().filter((tab) => address(tab) && which(address(tab)));
  if (ours.length) await vscode.window.tabGroups.close(ours);
}

module.exports = { Proposals, SCHEME };
