/** The page: asks, shows, stops. */

import { AnswerView, codeOf } from "./answer.js";
import { Conversation, kept, Turn } from "./conversation.js";
import { Status } from "./status.js";
import { AnswerStream, Refusal, TRIES } from "./stream.js";
import { preferred, say, speak, switchLanguage } from "./words.js";

/** Refusals after which asking again may help. */
const PASSING = /^(request_timeout|too_many_.*|resume_unavailable|shutting_down|unknown_stream|events_gone|connection_lost|http_(429|5..))$/;
/** Pixels from the end of the page within which a reader is at its end. */
const AT_END = 48;
/** Milliseconds that a button says that it has copied. */
const COPIED = 1_500;

/** @param {string} id */
const find = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const turns = find("turns");
const question = /** @type {HTMLTextAreaElement} */ (find("question"));
const keyField = /** @type {HTMLInputElement} */ (find("key"));
const askButton = /** @type {HTMLButtonElement} */ (find("ask"));

let conversation = Conversation.load();
/** @type {{turn: Turn, view: AnswerView, stream: AnswerStream} | null} */
let running = null;
/** @type {(() => void) | null} what waits for a key */
let wanting = null;

// --- asking ---

function ask() {
  const text = question.value;
  if (running || !text.trim()) return;
  question.value = "";
  const turn = new Turn(text);
  conversation.turns.push(turn);
  const view = show(turn);
  toEnd();
  run(turn, view);
}

/**
 * Show a question, and what is known of its answer.
 * @param {Turn} turn
 */
function show(turn) {
  const view = new AnswerView(turn.question, {
    whole: () => turn.text,
    onGrow: growing,
    onRetry: () => again(turn, view),
  });
  for (const told of turn.events) view.apply(told);
  turns.append(view.root);
  find("intro").hidden = true;
  return view;
}

/**
 * @param {Turn} turn
 * @param {AnswerView} view
 */
async function run(turn, view) {
  const fields = { question: turn.question, session_id: conversation.session, reasoning: "separate" };
  const stream = new AnswerStream(turn.place, fields, authorization, (lost) => {
    view.connection(lost, TRIES);
    conversation.save(); // the stream's id, above all
    status.look();
  });
  const mine = (running = { turn, view, stream });
  setBusy();
  conversation.save();
  try {
    for await (const events of stream.events()) {
      if (running !== mine) continue; // stopped, and the rest is of no use
      if (!turn.text && events.some((told) => told.type === "chunk")) announce("told.begun");
      for (const told of events) hear(turn, view, told);
    }
  } catch (error) {
    if (running === mine) fail(turn, view, error);
  }
  if (running === mine) over();
}

/**
 * @param {Turn} turn
 * @param {AnswerView} view
 * @param {import("./stream.js").Told} told
 */
function hear(turn, view, told) {
  if (turn.ended) return;
  turn.add(told);
  view.apply(told);
  if (told.type === "final_end" && told.reason === "complete") announce("told.complete");
}

/**
 * Tell a failure as the relay tells its own.
 * @param {Turn} turn
 * @param {AnswerView} view
 * @param {unknown} error
 */
function fail(turn, view, error) {
  const known = error instanceof Refusal;
  const code = known ? error.code : "page";
  if (!known) console.error(error);
  const message = error instanceof Error ? error.message : String(error);
  hear(turn, view, { type: "error", code, message, retryable: !known || PASSING.test(code) });
  hear(turn, view, { type: "final_end", reason: "error" });
  if (code === "unauthorized") wantKey(() => again(turn, view));
}

function over() {
  running = null;
  setBusy();
  conversation.save();
  status.look();
}

function stop() {
  if (!running) return;
  const { turn, view, stream } = running;
  stream.stop().then(() => status.look(), () => announce("told.unstopped", true));
  hear(turn, view, { type: "final_end", reason: "cancelled" });
  announce("told.cancelled");
  over();
  question.focus();
}

/**
 * Ask the same question in the place of an answer that failed.
 * @param {Turn} turn
 * @param {AnswerView} view
 */
function again(turn, view) {
  if (running) return;
  turn.reset();
  const fresh = show(turn);
  view.root.replaceWith(fresh.root);
  question.focus();
  run(turn, fresh);
}

function begin() {
  stop();
  conversation = new Conversation();
  conversation.save();
  turns.replaceChildren();
  wanting = null;
  find("intro").hidden = false;
  find("cut").hidden = true;
  announce("told.new");
  question.focus();
}

function setBusy() {
  find("stop").hidden = !running;
  askButton.disabled = running !== null;
}

// --- the key ---

/** @returns {Record<string, string>} */
function authorization() {
  const key = kept.get("key") ?? memory;
  return key ? { Authorization: `Bearer ${key}` } : {};
}
let memory = ""; // where the browser forbids to keep anything

/** @param {(() => void) | null} then what to do once there is one */
function wantKey(then) {
  wanting = then ?? wanting;
  const form = find("key-form");
  say(find("key-why"), "Authorization" in authorization() ? "key.wrong" : "key.why");
  if (!form.hidden && !then) return;
  form.hidden = false;
  if (then || !question.value) keyField.focus();
}

/** @param {Event} event */
function useKey(event) {
  event.preventDefault();
  const key = keyField.value.trim();
  if (!/^[!-~]+$/.test(key)) {
    say(find("key-why"), "key.odd");
    return;
  }
  memory = key;
  kept.set("key", key);
  keyField.value = "";
  find("key-form").hidden = true;
  question.focus();
  status.look();
  const then = wanting;
  wanting = null;
  then?.();
}

// --- the end of the page ---

let atEnd = true;

/** @param {() => void} change makes the page longer; a reader who is at its end stays there */
function growing(change) {
  change();
  if (atEnd) toEnd();
}

function toEnd() {
  scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
}

function noteScroll() {
  const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
  atEnd = scrollHeight - clientHeight - scrollTop < AT_END;
}

// --- words to those who do not see, and copies ---

/**
 * @param {string} word
 * @param {boolean} visibly
 */
function announce(word, visibly = false) {
  const teller = say(find("teller"), word);
  teller.classList.toggle("hidden", !visibly);
}

/** @param {HTMLElement} button */
async function copy(button) {
  const box = /** @type {HTMLElement | null} */ (button.closest(".code"));
  const attribute = box ? "aria-label" : undefined;
  const word = box ? "copy.code" : "copy.answer";
  const turn = conversation.turns[[...turns.children].indexOf(/** @type {HTMLElement} */ (button.closest(".turn")))];
  const copied = await toClipboard(box ? codeOf(box) : turn.text);
  say(button, copied ? "copied" : "copy.failed", {}, attribute);
  setTimeout(() => say(button, word, {}, attribute), COPIED);
  announce(copied ? "copied" : "copy.failed");
}

/** @param {string} text */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text); // without TLS there is no clipboard but beyond loopback
  }
}

/** @param {string} text */
function copySelected(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "hidden";
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  before?.focus();
  return copied;
}

// --- what the user does ---

/** @param {KeyboardEvent} event */
function onKey(event) {
  const composing = event.isComposing || event.keyCode === 229; // Safari ends a composition before its Enter
  if (event.key === "Escape" && !composing) stop();
  if (event.key !== "Enter" || event.shiftKey || composing || event.target !== question) return;
  event.preventDefault();
  ask();
}

/** @param {MouseEvent} event */
function onClick(event) {
  const target = event.target instanceof Element ? event.target.closest(".copy, .copy-answer") : null;
  if (target) copy(/** @type {HTMLElement} */ (target));
}

speak(preferred());
const status = new Status(find("status"), authorization, () => wantKey(null));
find("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
find("key-form").addEventListener("submit", useKey);
find("stop").addEventListener("click", stop);
find("new").addEventListener("click", begin);
find("language").addEventListener("click", switchLanguage);
document.addEventListener("keydown", onKey);
document.addEventListener("click", onClick);
document.addEventListener("scroll", noteScroll, { passive: true });
document.addEventListener("visibilitychange", () => conversation.save()); // a page that goes is hidden first
history.scrollRestoration = "manual";

for (const turn of conversation.turns) {
  const view = show(turn);
  if (!turn.ended && turn === conversation.turns.at(-1)) run(turn, view);
}
find("cut").hidden = !conversation.cut;
toEnd();
question.focus();
