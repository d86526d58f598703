/** Why a question has no answer, before or without an event that tells it. */

/** Failures of `fetch`, in Node and in Electron, after which a question may have been sent. */
const SENT = /ECONNRESET|EPIPE|UND_ERR_(SOCKET|HEADERS_TIMEOUT|BODY_TIMEOUT)|AbortError|ERR_(CONNECTION_(RESET|CLOSED|ABORTED)|EMPTY_RESPONSE|TIMED_OUT|NETWORK_)/;
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
  /** @param {any} cause what `fetch` or its reader threw */
  constructor(cause) {
    const told = cause?.cause ?? cause;
    super(String(told?.message || cause?.message || cause), { cause });
    this.code = [cause?.name, told?.code, this.message].filter(Boolean).join(" ");
    this.unsent = !SENT.test(this.code);
  }

  /** Why there is no connection. @returns {"refused" | "unknown" | "silent" | "unsafe" | "other"} */
  get why() {
    if (/ECONNREFUSED|CONNECTION_REFUSED/.test(this.code)) return "refused";
    if (/ENOTFOUND|EAI_AGAIN|NAME_NOT_RESOLVED/.test(this.code)) return "unknown";
    if (/TIMEOUT|TimeoutError/.test(this.code)) return "silent";
    if (/CERT|SSL|TLS|SELF_SIGNED|UNABLE_TO_/.test(this.code)) return "unsafe";
    return "other";
  }
}

/** Nothing was asked, for there is no connection. */
class Unreachable extends Refusal {
  /**
   * @param {string} url
   * @param {Lost} lost
   */
  constructor(url, lost) {
    super("unreachable", lost.message);
    this.url = url;
    this.lost = lost;
  }
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

module.exports = { Refusal, Lost, Unreachable, json };
