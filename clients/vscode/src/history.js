/** The conversations of before, to be chosen from. */

const vscode = require("vscode");

const { l10n } = vscode;

/**
 * @param {import("./chat.js").Chat} chat
 * @param {import("./view.js").ChatView} view
 */
async function history(chat, view) {
  const pick = vscode.window.createQuickPick();
  pick.placeholder = l10n.t("Go on with a conversation");
  pick.busy = true;
  pick.show();
  const remove = { iconPath: new vscode.ThemeIcon("trash"), tooltip: l10n.t("Delete") };
  const fill = async () => {
    const kept = await chat.history();
    pick.items = kept.map(({ id, title, turns, time }) => ({
      id,
      label: title.split("\n")[0].slice(0, 100),
      description: new Date(time).toLocaleString(vscode.env.language),
      detail: turns === 1 ? l10n.t("1 question") : l10n.t("{0} questions", turns),
      buttons: [remove],
    }));
    pick.busy = false;
  };
  pick.onDidTriggerItemButton(async ({ item }) => {
    await chat.remove(idOf(item));
    await fill();
  });
  pick.onDidAccept(async () => {
    const [item] = pick.selectedItems;
    pick.hide();
    if (!item) return;
    await chat.open(idOf(item));
    await view.focus();
  });
  pick.onDidHide(() => pick.dispose());
  await fill();
}

/** @param {vscode.QuickPickItem} item */
function idOf(item) {
  return "id" in item && typeof item.id === "string" ? item.id : "";
}

module.exports = { history };
