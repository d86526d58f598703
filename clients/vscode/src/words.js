/** What is said of each code, of the relay's and of the extension's own. */

const { l10n } = require("vscode");
const { Refusal, Unreachable } = require("./refusal.js");

/** @returns {Record<string, string>} */
const codes = () => ({
  bad_request: l10n.t("The relay does not take this question."),
  unauthorized: l10n.t("The relay wants a key."),
  forbidden_origin: l10n.t("The relay does not answer this program."),
  forbidden_host: l10n.t("The relay does not go by this name."),
  forbidden_workspace: l10n.t("This workspace may not be asked."),
  not_found: l10n.t("There is nothing at this address."),
  unknown_stream: l10n.t("The relay no longer has this answer."),
  request_timeout: l10n.t("The question took too long to arrive."),
  idempotency_conflict: l10n.t("Another question was asked in the same name."),
  events_gone: l10n.t("The relay no longer has what would follow."),
  too_large: l10n.t("The question is too long."),
  too_many_connections: l10n.t("The relay has too many connections."),
  too_many_streams: l10n.t("Too many answers are running."),
  too_many_readers: l10n.t("Too many are reading this answer."),
  resume_unavailable: l10n.t("The relay has no room for a further answer."),
  upstream_unreachable: l10n.t("AnythingLLM cannot be reached."),
  upstream_timeout: l10n.t("AnythingLLM was silent for too long."),
  upstream_unauthorized: l10n.t("AnythingLLM does not take the relay’s key."),
  upstream_rejected: l10n.t("AnythingLLM refused the question."),
  upstream_aborted: l10n.t("The model failed."),
  upstream_truncated: l10n.t("The answer broke off."),
  upstream_protocol: l10n.t("What answered is not AnythingLLM."),
  empty_answer: l10n.t("The model said nothing."),
  shutting_down: l10n.t("The relay is stopping."),
  internal: l10n.t("The relay itself failed."),
  connection_lost: l10n.t("The connection to the relay was lost."),
  unreachable: l10n.t("The relay cannot be reached."),
  no_relay: l10n.t("What answers there is no relay."),
  bad_url: l10n.t("The address of a relay is one like http://localhost:5000."),
  too_long: l10n.t("The answer was longer than is kept here, and was stopped."),
  no_code: l10n.t("The answer holds no code."),
  closed: l10n.t("The document was closed."),
  not_taken: l10n.t("The editor did not take the code."),
  extension: l10n.t("The extension itself failed."),
});

/** @param {string} code */
function wordsOf(code) {
  return codes()[code] ?? l10n.t("The relay cannot be asked just now.");
}

/**
 * Why there is no connection.
 * @param {string} url
 * @param {import("./refusal.js").Lost} lost
 */
function wordsOfLost(url, { why, message }) {
  if (why === "refused") return l10n.t("Nothing listens at {0}.", url);
  if (why === "unknown") return l10n.t("The host of {0} is not known.", url);
  if (why === "silent") return l10n.t("{0} does not answer.", url);
  if (why === "unsafe") return l10n.t("There is no safe connection to {0}: {1}.", url, message);
  return l10n.t("{0} cannot be asked: {1}.", url, message);
}

/**
 * @param {unknown} error
 * @returns {import("./turn.js").Failure}
 */
function failureOf(error) {
  if (error instanceof Unreachable) return { code: error.code, message: wordsOfLost(error.url, error.lost), retryable: true };
  if (error instanceof Refusal) return { code: error.code, message: error.message, retryable: true };
  console.error("AnythingLLM Relay:", error);
  return { code: "extension", message: error instanceof Error ? error.message : String(error), retryable: true };
}

/** What the chat's view says. */
const viewWords = () => ({
  question: l10n.t("Ask about your code"),
  placeholder: l10n.t("Ask something (Shift+Enter: new line)"),
  send: l10n.t("Ask"),
  stop: l10n.t("Stop"),
  conversation: l10n.t("Conversation"),
  intro: l10n.t("What would you like to know?"),
  introHow: l10n.t("Select code and choose Fix, Explain or Generate in its context menu, or ask here."),
  prompt: l10n.t("What was sent"),
  waiting: l10n.t("Waiting for the answer…"),
  lost: l10n.t("The connection was lost. Trying again…"),
  reasoning: l10n.t("Reasoning"),
  progress: l10n.t("Progress of the agent"),
  sources: l10n.t("Sources"),
  output: l10n.t("Made by the agent"),
  copy: l10n.t("Copy"),
  copied: l10n.t("Copied"),
  insert: l10n.t("Insert"),
  insertHow: l10n.t("Insert at the cursor"),
  apply: l10n.t("Apply"),
  applyHow: l10n.t("Show what it would change"),
  copyAnswer: l10n.t("Copy answer"),
  retry: l10n.t("Ask again"),
  running: l10n.t("Answering"),
  complete: l10n.t("Complete"),
  failed: l10n.t("Failed"),
  stopped: l10n.t("Stopped"),
  setKey: l10n.t("Set key"),
  howToStart: l10n.t("How to start it"),
});

module.exports = { failureOf, viewWords, wordsOf, wordsOfLost };
