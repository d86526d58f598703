/** Why a question has no answer, before or without an event that tells it. */

/** Errors of a connection that never was: nothing was sent. */
const UNSENT = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT"];
const UNKNOWN_HOST = ["ENOTFOUND", "EAI_AGAIN"];
/** Bytes of a refusal that are read. */
const MOST = 65_536;

/** What the relay would not do; `code` is from docs/protocol.md, or this extension's own. */
class Refusal extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {number} status
   * @param {number} wait seconds the relay asks to wait
   */
  constructor(code, message = "", status = 0, wait = 0) {
    super(message);
    this.code = code;
    this.status = status;
    this.wait = wait;
  }

  /** @param {Response} response */
  static async of(response) {
    const wait = Number(response.headers.get("Retry-After")) || 0;
    const told = await json(response); // a proxy's own refusals are no JSON
    const code = typeof told?.code === "string" ? told.code : `http_${response.status}`;
    return new Refusal(code, typeof told?.error === "string" ? told.error : "", response.status, wait);
  }
}

/** A connection that was lost, or never was. */
class Lost extends Error {
  /** @param {any} cause of `fetch`, in Node or in Electron */
  constructor(cause) {
    super(cause?.message ?? String(cause), { cause });
    this.code = String(cause?.cause?.code ?? cause?.code ?? "");
    this.unsent = UNSENT.includes(this.code) || /ERR_(CONNECTION_REFUSED|NAME_NOT_RESOLVED)/.test(this.message);
  }
}

/**
 * @param {string} url
 * @param {Lost} lost
 */
function reason(url, lost) {
  if (UNKNOWN_HOST.includes(lost.code) || lost.message.includes("NAME_NOT_RESOLVED")) return `The host of ${url} is not known.`;
  if (lost.code.includes("TIMEOUT")) return `${url} does not answer.`;
  return `Nothing listens at ${url}.`;
}

/**
 * @param {Response} response
 * @returns {Promise<any>} null where it is no JSON, or too long
 */
async function json(response) {
  let text = "";
  try {
    const decoder = new TextDecoder();
    for await (const bytes of response.body ?? []) {
      text += decoder.decode(bytes, { stream: true });
      if (text.length > MOST) return null;
    }
    return JSON.parse(text);
  } catch {
    return null;
  }
}

module.exports = { Refusal, Lost, reason, json };
