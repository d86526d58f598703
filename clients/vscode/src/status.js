/** The word in the status bar, and how to start a relay that is not there. */

const vscode = require("vscode");

const { l10n } = vscode;
const HELP = "anythingllm-help";

/** @type {Record<import("./connection.js").Health, {icon: string, command: string, warns: boolean}>} */
const LOOKS = {
  looking: { icon: "$(loading~spin)", command: "ask", warns: false },
  ready: { icon: "$(comment-discussion)", command: "ask", warns: false },
  notReady: { icon: "$(warning)", command: "look", warns: true },
  noRelay: { icon: "$(debug-disconnect)", command: "howToStart", warns: true },
  needsKey: { icon: "$(key)", command: "setKey", warns: true },
};

class StatusBar {
  #connection;
  #item = vscode.window.createStatusBarItem("anythingllmRelay", vscode.StatusBarAlignment.Right, 90);

  /**
   * @param {vscode.ExtensionContext} context
   * @param {import("./connection.js").Connection} connection
   */
  constructor(context, connection) {
    this.#connection = connection;
    this.#item.name = "AnythingLLM Relay";
    context.subscriptions.push(
      this.#item,
      connection.onChange(() => this.#show()),
      vscode.workspace.registerTextDocumentContentProvider(HELP, { provideTextDocumentContent: () => help(connection) }),
    );
    this.#show();
    this.#item.show();
  }

  #show() {
    const { health, words } = this.#connection;
    const { icon, command, warns } = LOOKS[health];
    this.#item.text = `${icon} Relay`;
    this.#item.tooltip = words;
    this.#item.accessibilityInformation = { label: `AnythingLLM: ${words}` };
    this.#item.command = `anythingllmRelay.${command}`;
    this.#item.backgroundColor = warns ? new vscode.ThemeColor("statusBarItem.warningBackground") : undefined;
  }
}

async function howToStart() {
  const uri = vscode.Uri.from({ scheme: HELP, path: `/${l10n.t("How to start the relay")}.md`, query: String(Date.now()) });
  const document = await vscode.workspace.openTextDocument(uri);
  await vscode.commands
    .executeCommand("markdown.showPreview", uri)
    .then(undefined, () => vscode.window.showTextDocument(document)); // without the extension that shows Markdown
}

/** @param {import("./connection.js").Connection} connection */
function help(connection) {
  const set = vscode.workspace.getConfiguration("anythingllmRelay").get("url", "");
  return `# ${l10n.t("How to start the relay")}

${l10n.t("The extension looks for it at {0}:", set)} ${connection.words}

${l10n.t("In the folder of the relay, to try it with a stand-in for AnythingLLM:")}

    make demo

${l10n.t("With your AnythingLLM, after its three settings are in the file .env (README.md tells them):")}

    make run

${l10n.t("Without make, in the environment that README.md tells how to make:")}

    python run.py --demo
    python run.py

${l10n.t("Where it answers is the last thing it says before it waits. If that is another address, change the setting anythingllmRelay.url. In a remote window, it is the address as seen from the remote machine.")}
`;
}

module.exports = { StatusBar, howToStart };
