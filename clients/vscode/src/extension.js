/** The extension's parts, and what starts and ends them. */

const vscode = require("vscode");
const { Assistant } = require("./assist.js");
const { Chat } = require("./chat.js");
const { Connection } = require("./connection.js");
const { Generator } = require("./generate.js");
const { history } = require("./history.js");
const { TooLong } = require("./prompts.js");
const { Proposals } = require("./proposals.js");
const { Refusal } = require("./refusal.js");
const { StatusBar, howToStart } = require("./status.js");
const { ChatView } = require("./view.js");
const { failureOf, wordsOf } = require("./words.js");

const { l10n } = vscode;

/** @type {(() => Promise<unknown>)[]} what is to be done before the window goes */
const leaving = [];

/** @param {vscode.ExtensionContext} context */
async function activate(context) {
  const connection = new Connection(context);
  const chat = new Chat(context, connection);
  const proposals = new Proposals(context);
  const generator = new Generator(connection, report);
  /** @type {Assistant} */
  let assistant;
  const view = new ChatView(context, chat, connection, {
    insert: (code) => assistant.insert(code),
    apply: (code, target) => assistant.apply(code, target),
    report,
  });
  assistant = new Assistant(context, chat, view, proposals, report);
  new StatusBar(context, connection);
  leaving.push(
    () => chat.leave(),
    () => generator.stop(),
  );

  /** @type {Record<string, (...given: any[]) => unknown>} */
  const commands = {
    ask: () => view.focus(),
    stop: () => (generator.running ? generator.stop() : chat.stop()),
    newConversation: async () => {
      chat.begin();
      await view.focus();
    },
    history: () => history(chat, view),
    fix: (uri, range) => (range instanceof vscode.Range ? assistant.fix(uri, range) : assistant.fix()), // a menu gives an address alone
    fixOutput: () => assistant.fixOutput(),
    fixTerminal: () => assistant.fixTerminal(),
    explain: () => assistant.explain(),
    generate: async () => {
      const editor = vscode.window.activeTextEditor;
      if (editor) await generator.generate(editor);
      else vscode.window.showInformationMessage(l10n.t("Open the file in which code should be generated."));
    },
    acceptChange: () => proposals.accept(),
    rejectChange: () => proposals.reject(),
    setKey: () => connection.setKey(),
    forgetKey: () => connection.forgetKey(),
    look: () => connection.look(),
    howToStart,
  };
  for (const [name, run] of Object.entries(commands)) {
    const reported = async (/** @type {any[]} */ ...given) => {
      try {
        await run(...given);
      } catch (error) {
        await report(error);
      }
    };
    context.subscriptions.push(vscode.commands.registerCommand(`anythingllmRelay.${name}`, reported));
  }

  connection.look();
  await chat.restore();

  /**
   * Say why something was not done, with what helps.
   * @param {unknown} error
   */
  async function report(error) {
    if (error instanceof TooLong) {
      await vscode.window.showErrorMessage(l10n.t("The question would be {0}, and a relay takes {1}: select less.", error.size, error.most));
      return;
    }
    const { code, message } = failureOf(error);
    if (error instanceof Refusal) connection.look();
    const start = l10n.t("How to start it");
    const key = l10n.t("Set key");
    const helps = code === "unauthorized" ? [key] : ["unreachable", "no_relay", "connection_lost"].includes(code) ? [start] : [];
    const chosen = await vscode.window.showErrorMessage(`${wordsOf(code)} ${message}`.trim(), ...helps);
    if (chosen === start) await howToStart();
    else if (chosen === key) await connection.setKey();
  }
}

/** The answers of the chat go on in the next window; code for the editor does not. */
async function deactivate() {
  await Promise.allSettled(leaving.map((leave) => leave()));
}

module.exports = { activate, deactivate };
