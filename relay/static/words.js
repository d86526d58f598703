/** Every word of the page, in its two languages, and which of them is spoken. */

/** @typedef {"en" | "zh"} Language */

/** @type {Record<Language, Record<string, string>>} */
export const WORDS = {
  en: {
    "page": "AnythingLLM relay",
    "language": "中文",
    "new": "New conversation",
    "intro": "What would you like to know?",
    "intro.how": "The answer appears while it is written. Enter asks, Shift+Enter begins a new line, Escape stops.",
    "question": "Your question",
    "ask": "Ask",
    "stop": "Stop",
    "conversation": "Conversation",
    "turn": "Question and answer",
    "cut": "What came before this was too long to be kept when the page was loaded again.",

    "ready.wait": "Looking for AnythingLLM…",
    "ready": "AnythingLLM is ready",
    "ready.unknown": "Connected to the relay",
    "ready.lost": "The relay cannot be reached",
    "active.one": "1 answer running",
    "active": "{count} answers running",

    "key": "The relay’s key",
    "key.why": "This relay answers only with one of its keys. It is kept until this tab is closed.",
    "key.wrong": "The relay does not know this key.",
    "key.odd": "A key has letters, digits and signs of ASCII only, without blanks.",
    "key.use": "Use this key",

    "waiting": "Waiting for the answer…",
    "reconnecting": "The connection was lost. Trying again ({lost} of {most})…",
    "reasoning": "Reasoning",
    "thoughts": "Progress of the agent ({count})",
    "sources": "Sources ({count})",
    "output.file": "File",
    "output.chart": "Chart",
    "output.scheduled_job": "Scheduled job",
    "output.other": "Output",
    "copy.code": "Copy",
    "copy.answer": "Copy answer",
    "copied": "Copied",
    "copy.failed": "The browser did not allow to copy",
    "retry": "Ask again",

    "end.complete": "Complete",
    "end.error": "Failed",
    "end.cancelled": "Stopped",
    "end.shutdown": "The relay stopped",
    "tokens": "{tokens} tokens",
    "seconds": "{seconds} s",
    "skipped": "Parts that could not be read: {count}",

    "told.begun": "The answer begins.",
    "told.complete": "The answer is complete.",
    "told.cancelled": "The answer was stopped.",
    "told.unstopped": "The relay could not be told to stop. It stops by itself when nobody has read the answer for a while.",
    "told.new": "A new conversation.",

    "code.bad_request": "The relay does not take this question.",
    "code.unauthorized": "The relay wants a key.",
    "code.forbidden_origin": "This page may not use the relay.",
    "code.forbidden_host": "The relay does not go by this name.",
    "code.forbidden_workspace": "This workspace may not be asked.",
    "code.model_not_found": "There is no such model.",
    "code.not_found": "There is nothing at this address.",
    "code.unknown_stream": "The relay no longer has this answer.",
    "code.method_not_allowed": "This cannot be done at this address.",
    "code.request_timeout": "The question took too long to arrive.",
    "code.idempotency_conflict": "Another question was asked in the same name.",
    "code.events_gone": "The relay no longer has what would follow.",
    "code.too_large": "The question is too long.",
    "code.unsupported_media_type": "The relay does not know this kind of question.",
    "code.too_many_connections": "The relay has too many connections.",
    "code.too_many_streams": "Too many answers are running.",
    "code.too_many_readers": "Too many are reading this answer.",
    "code.resume_unavailable": "The relay has no room for a further answer.",
    "code.upstream_unreachable": "AnythingLLM cannot be reached.",
    "code.upstream_timeout": "AnythingLLM was silent for too long.",
    "code.upstream_unauthorized": "AnythingLLM does not take the relay’s key.",
    "code.upstream_rejected": "AnythingLLM refused the question.",
    "code.upstream_aborted": "The model failed.",
    "code.upstream_truncated": "The answer broke off.",
    "code.upstream_protocol": "What answered is not AnythingLLM.",
    "code.empty_answer": "The model said nothing.",
    "code.shutting_down": "The relay is stopping.",
    "code.internal": "The relay itself failed.",
    "code.connection_lost": "The connection to the relay was lost.",
    "code.page": "This page itself failed.",
    "code.other": "The relay cannot be asked just now.",
  },
  zh: {
    "page": "AnythingLLM 中继",
    "language": "English",
    "new": "新对话",
    "intro": "想问点什么？",
    "intro.how": "回答边写边显示。Enter 发送，Shift+Enter 换行，Esc 停止。",
    "question": "你的问题",
    "ask": "提问",
    "stop": "停止",
    "conversation": "对话",
    "turn": "问题与回答",
    "cut": "更早的内容太长，页面重新载入时没有保留。",

    "ready.wait": "正在查找 AnythingLLM…",
    "ready": "AnythingLLM 已就绪",
    "ready.unknown": "已连接到中继",
    "ready.lost": "无法连接到中继",
    "active.one": "1 个回答进行中",
    "active": "{count} 个回答进行中",

    "key": "中继密钥",
    "key.why": "此中继需要密钥才能回答。密钥只保留到此标签页关闭为止。",
    "key.wrong": "中继不认识这个密钥。",
    "key.odd": "密钥只能包含 ASCII 字母、数字和符号，不能有空格。",
    "key.use": "使用此密钥",

    "waiting": "正在等待回答…",
    "reconnecting": "连接已断开，正在重试（第 {lost} 次，共 {most} 次）…",
    "reasoning": "思考过程",
    "thoughts": "智能体进展（{count}）",
    "sources": "来源（{count}）",
    "output.file": "文件",
    "output.chart": "图表",
    "output.scheduled_job": "定时任务",
    "output.other": "输出",
    "copy.code": "复制",
    "copy.answer": "复制回答",
    "copied": "已复制",
    "copy.failed": "浏览器不允许复制",
    "retry": "重新提问",

    "end.complete": "完成",
    "end.error": "失败",
    "end.cancelled": "已停止",
    "end.shutdown": "中继已停止",
    "tokens": "{tokens} 个 token",
    "seconds": "{seconds} 秒",
    "skipped": "无法读取的部分：{count}",

    "told.begun": "开始回答。",
    "told.complete": "回答完成。",
    "told.cancelled": "回答已停止。",
    "told.unstopped": "无法通知中继停止。一段时间无人读取后，它会自行停止。",
    "told.new": "新对话。",

    "code.bad_request": "中继不接受这个问题。",
    "code.unauthorized": "中继需要密钥。",
    "code.forbidden_origin": "此网页不能使用该中继。",
    "code.forbidden_host": "中继不使用这个主机名。",
    "code.forbidden_workspace": "不能向这个工作区提问。",
    "code.model_not_found": "没有这个模型。",
    "code.not_found": "此地址没有内容。",
    "code.unknown_stream": "中继已不再保存这个回答。",
    "code.method_not_allowed": "此地址不支持该操作。",
    "code.request_timeout": "问题传送时间过长。",
    "code.idempotency_conflict": "同一标识已用于另一个问题。",
    "code.events_gone": "中继已不再保存后续内容。",
    "code.too_large": "问题太长。",
    "code.unsupported_media_type": "中继不认识这种问题格式。",
    "code.too_many_connections": "中继的连接过多。",
    "code.too_many_streams": "正在进行的回答过多。",
    "code.too_many_readers": "读取这个回答的人过多。",
    "code.resume_unavailable": "中继没有空间容纳新的回答。",
    "code.upstream_unreachable": "无法连接到 AnythingLLM。",
    "code.upstream_timeout": "AnythingLLM 太久没有回应。",
    "code.upstream_unauthorized": "AnythingLLM 不接受中继的密钥。",
    "code.upstream_rejected": "AnythingLLM 拒绝了这个问题。",
    "code.upstream_aborted": "模型出错。",
    "code.upstream_truncated": "回答中断。",
    "code.upstream_protocol": "应答的不是 AnythingLLM。",
    "code.empty_answer": "模型没有给出任何内容。",
    "code.shutting_down": "中继正在停止。",
    "code.internal": "中继本身出错。",
    "code.connection_lost": "与中继的连接已断开。",
    "code.page": "此页面本身出错。",
    "code.other": "暂时无法向中继提问。",
  },
};

/** Where the choice of a language is remembered. */
const CHOICE = "language";
/** What words may stand in, besides an element's text. */
const ATTRIBUTES = ["aria-label", "placeholder"];

/** @type {Language} */
let spoken = "en";

/** The language that was chosen before, or else the first of the browser's that is known here. */
export function preferred() {
  let chosen = null;
  try {
    chosen = localStorage.getItem(CHOICE);
  } catch {
    // forbidden: nothing is remembered
  }
  const wanted = [chosen ?? "", ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase());
  return /** @type {Language} */ (wanted.find((tag) => tag in WORDS) ?? "en");
}

/** Speak the other language from now on, and remember that. */
export function switchLanguage() {
  speak(spoken === "en" ? "zh" : "en");
  try {
    localStorage.setItem(CHOICE, spoken);
  } catch {
    // forbidden: nothing is remembered
  }
}

/**
 * Speak a language, in all that is on the page.
 * @param {Language} language
 */
export function speak(language) {
  spoken = language;
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = phrase("page");
  for (const one of document.querySelectorAll("[data-word]")) put(/** @type {HTMLElement} */ (one));
  for (const name of ATTRIBUTES) {
    for (const one of document.querySelectorAll(`[data-word-${name}]`)) put(/** @type {HTMLElement} */ (one), name);
  }
}

/**
 * Have an element say something, in whatever language is spoken. Returns the element.
 * @param {HTMLElement} element
 * @param {string} word from the table
 * @param {Record<string, unknown>} values what stands in {braces}
 * @param {string} [attribute] where it is said, instead of the element's text
 */
export function say(element, word, values = {}, attribute) {
  element.setAttribute(attribute ? `data-word-${attribute}` : "data-word", word);
  if (Object.keys(values).length) element.dataset.values = JSON.stringify(values);
  put(element, attribute);
  return element;
}

/**
 * @param {HTMLElement} element
 * @param {string} [attribute]
 */
function put(element, attribute) {
  const word = element.getAttribute(attribute ? `data-word-${attribute}` : "data-word") ?? "";
  const text = phrase(word, JSON.parse(element.dataset.values ?? "{}"));
  if (attribute) element.setAttribute(attribute, text);
  else if (element.textContent !== text) element.textContent = text;
}

/**
 * @param {string} word
 * @param {Record<string, unknown>} values
 */
function phrase(word, values = {}) {
  const kind = word.split(".")[0];
  // What a newer relay may tell.
  const found = WORDS[spoken][word] ?? WORDS[spoken][`${kind}.other`] ?? word;
  return found.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}
