/** The extension's parts, and what starts and ends them. */

const vscode = require("vscode");
const { Chat } = require("./chat.js");
const { Connection } = require("./connection.js");
const { ChatView } = require("./view.js");

/** @type {Chat | null} */
let chat = null;

/** @param {vscode.ExtensionContext} context */
async function activate(context) {
  const connection = new Connection(context);
  const asked = new Chat(context, connection);
  chat = asked;
  const view = new ChatView(context, asked, connection, { insert: async () => {}, apply: async () => {} });
  /** @param {string} name @param {(...given: any[]) => unknown} run */
  const command = (name, run) => context.subscriptions.push(vscode.commands.registerCommand(`anythingllmRelay.${name}`, run));
  command("ask", () => view.focus());
  command("stop", () => asked.stop());
  command("newConversation", () => {
    asked.begin();
    return view.focus();
  });
  command("setKey", () => connection.setKey());
  command("forgetKey", () => connection.forgetKey());
  connection.look();
  await asked.restore();
}

async function deactivate() {
  await chat?.leave();
}

module.exports = { activate, deactivate };
