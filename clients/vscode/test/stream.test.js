const assert = require("node:assert/strict");
const http = require("node:http");
const net = require("node:net");
const { after, before, test } = require("node:test");
const { Refusal } = require("../src/refusal.js");
const { AnswerStream } = require("../src/stream.js");
const { randomId } = require("../src/turn.js");
const { MISSING, counted, startRelay } = require("./relay.js");

const skip = MISSING;
const QUICK = { firstWait: 10 };
/** @type {Awaited<ReturnType<typeof startRelay>>} */
let relay;

before(async () => {
  if (!skip) relay = await startRelay({ RELAY_API_KEYS: "", RELAY_HEARTBEAT: "1" });
});
/** @type {(() => unknown)[]} */
const closes = [];
after(async () => {
  for (const close of closes) close();
  await relay?.stop();
});

/** @param {string} [id] */
function place(id = "") {
  return { key: randomId(), id, after: 0 };
}

/** @param {string} question @param {{url?: string, at?: import("../src/stream.js").Place, patience?: object, headers?: Record<string, string>}} [given] */
function asked(question, { url = relay.url, at = place(), patience = QUICK, headers = {} } = {}) {
  return new AnswerStream(at, { question, session_id: randomId() }, { url, headers }, undefined, patience);
}

/** @param {AnswerStream} stream @param {(text: string) => unknown} [seen] */
async function read(stream, seen = () => {}) {
  let text = "";
  /** @type {any} */
  let last = null;
  for await (const events of stream.events()) {
    for (const told of events) {
      if (told.type === "chunk") text += told.content;
      last = told;
    }
    await seen(text);
  }
  return { text, last };
}

/** @param {number} number */
const tokens = (number) => Array.from({ length: number }, (_, n) => `tok${n + 1}`).join(" ");

/** @param {() => Promise<boolean>} is */
async function until(is) {
  const end = Date.now() + 60_000;
  while (!(await is())) {
    assert.ok(Date.now() < end, "waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A server of the test's own. @param {http.RequestListener} answer */
async function server(answer) {
  const made = http.createServer(answer);
  await new Promise((resolve) => made.listen(0, "127.0.0.1", () => resolve(null)));
  const { port } = /** @type {net.AddressInfo} */ (made.address());
  const close = () => (made.closeAllConnections(), made.close());
  closes.push(close);
  return { url: `http://127.0.0.1:${port}`, close };
}

/** Between an asker and the relay: passes so many bytes on for each connection, then cuts it or falls silent. @param {number} most @param {boolean} silent */
async function wire(most, silent = false) {
  const target = Number(new URL(relay.url).port);
  const made = net.createServer((caller) => {
    const called = net.connect(target, "127.0.0.1");
    let passed = 0;
    caller.pipe(called);
    called.on("data", (bytes) => {
      const room = most - passed;
      passed += bytes.length;
      if (room > 0) caller.write(bytes.subarray(0, room));
      if (passed >= most && !silent) caller.destroy();
    });
    caller.on("error", () => {}).on("close", () => called.destroy());
    called.on("error", () => {}).on("close", () => silent || caller.destroy());
  });
  await new Promise((resolve) => made.listen(0, "127.0.0.1", () => resolve(null)));
  const { port } = /** @type {net.AddressInfo} */ (made.address());
  closes.push(() => made.close());
  return { url: `http://127.0.0.1:${port}`, close: () => made.close() };
}

test("pieces come while the answer is written, and exactly", { skip }, async () => {
  const stream = asked("!tokens=6 !pause=3600");
  for await (const events of stream.events()) {
    if (events.some((told) => told.content?.includes("tok3"))) break;
  }
  await stream.stop();
  await until(async () => (await counted(relay.url, "relay_streams_active")) === 0);
  assert.ok((await counted(relay.url, 'relay_streams_total{outcome="cancelled"}')) >= 1);
  const { text, last } = await read(asked("!tokens=50"));
  assert.equal(text, tokens(50));
  assert.equal(last.reason, "complete");
});

test("a connection that is cut again and again loses and repeats nothing, and asks once", { skip }, async () => {
  const { url, close } = await wire(3_000);
  const before = await counted(relay.url, 'relay_streams_total{outcome="complete"}');
  const { text } = await read(asked("!tokens=300", { url }));
  close();
  assert.equal(text, tokens(300));
  assert.equal(await counted(relay.url, 'relay_streams_total{outcome="complete"}'), before + 1);
});

test("a head that was lost is asked for again under the same key", { skip }, async () => {
  const { url, close } = await wire(40);
  const at = place();
  const running = read(asked("!tokens=30 !slow=0.05", { url, at })).catch((error) => error);
  await until(async () => (await counted(relay.url, "relay_streams_active")) === 1);
  const other = await read(asked("x", { at: { ...at } })).catch((error) => error);
  assert.equal(other.code, "idempotency_conflict"); // the question was asked, by that key
  close();
  assert.equal((await running).code, "connection_lost");
  await until(async () => (await counted(relay.url, "relay_streams_active")) === 0);
});

test("a line that falls silent is noticed, by the clock on the wall", { skip }, async () => {
  const { url, close } = await wire(2_000, true);
  const { text } = await read(asked("!tokens=60", { url, patience: { ...QUICK, silence: 300, tick: 20 } }));
  close();
  assert.equal(text, tokens(60));
});

test("a window goes on where another one left", { skip }, async () => {
  const at = place();
  const first = asked("!tokens=200 !slow=0.01", { at });
  let seen = "";
  for await (const events of first.events()) {
    seen += events.map((told) => told.content ?? "").join("");
    if (seen.includes("tok20 ")) break;
  }
  first.leave();
  assert.ok(at.id && at.after > 0);
  const { text, last } = await read(asked("", { at: JSON.parse(JSON.stringify(at)) }));
  assert.equal(seen + text, tokens(200));
  assert.equal(last.type, "final_end");
});

test("what the relay refuses is told with its code and words", { skip }, async () => {
  await assert.rejects(read(asked(" ")), (error) => error instanceof Refusal && error.code === "bad_request" && /blank/.test(error.message));
  await assert.rejects(read(asked("x", { at: place("nobody") })), { code: "unknown_stream", status: 404 });
  const at = place();
  await read(asked("!tokens=3", { at }));
  await assert.rejects(read(asked("", { at })), { code: "unknown_stream" }); // 204: its end was read before
});

test("an event of failure is no refusal", { skip }, async () => {
  const stream = asked("!abort=429");
  const types = [];
  for await (const events of stream.events()) types.push(...events.map(({ type, code }) => code ?? type));
  assert.deepEqual(types.slice(-2), ["upstream_aborted", "final_end"]);
});

test("where nothing listens, that is told at once", async () => {
  const { url, close } = await server(() => {});
  close();
  const begun = Date.now();
  await assert.rejects(read(asked("x", { url })), ({ code, url: told, lost }) => code === "unreachable" && told === url && lost.why === "refused");
  await assert.rejects(read(asked("x", { url: "http://127.0.0.1:9" })), { code: "unreachable", url: "http://127.0.0.1:9" });
  await assert.rejects(read(asked("x", { url: "http://nowhere.invalid" })), ({ code, lost }) => code === "unreachable" && lost.why === "unknown");
  assert.ok(Date.now() - begun < 20_000);
});

test("what answers and is no relay is told apart", async () => {
  const page = await server((_, response) => response.end("<html>"));
  await assert.rejects(read(asked("x", { url: page.url })), { code: "no_relay" });
  page.close();
  const odd = await server((request, response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).end(`data: ${request.headers["x-data"]}\n\n`));
  for (const data of ["{", "null", "7", "{}"]) await assert.rejects(read(asked("x", { url: odd.url, headers: { "X-Data": data } })), { code: "no_relay" });
  odd.close();
});

test("a key does not follow a redirect", async () => {
  let reached = 0;
  const other = await server((_, response) => (reached++, response.end()));
  const first = await server((_, response) => response.writeHead(307, { Location: other.url }).end());
  await assert.rejects(read(asked("x", { url: first.url, headers: { Authorization: "Bearer secret" } })), Error);
  assert.equal(reached, 0);
  first.close();
  other.close();
});

test("a refusal that passes is waited for while an answer is read, not before", async () => {
  let requests = 0;
  const { url, close } = await server((request, response) => {
    requests++;
    if (requests === 1) response.writeHead(200, { "Content-Type": "text/event-stream", "X-Stream-ID": "abc" }).end(': ping\nid: 1\ndata: {"type":"chunk","content":"a"}\n\n');
    else if (requests === 2) response.writeHead(503, { "Content-Type": "application/json" }).end('{"error": "wait", "code": "too_many_readers"}');
    else {
      assert.equal(request.url, "/streams/abc");
      assert.equal(request.headers["last-event-id"], "1");
      response.writeHead(200, { "Content-Type": "text/event-stream" }).end('id: 2\ndata: {"type":"final_end","reason":"complete"}\n\n');
    }
  });
  assert.equal((await read(asked("x", { url }))).text, "a");
  assert.equal(requests, 3);
  close();
  const busy = await server((_, response) => response.writeHead(503).end('{"error": "busy", "code": "too_many_streams"}'));
  await assert.rejects(read(asked("x", { url: busy.url })), { code: "too_many_streams", message: "busy" });
  busy.close();
});

test("where the relay has no room to hold an answer, it is asked for without", { skip }, async () => {
  const full = await startRelay({ RELAY_API_KEYS: "", RELAY_HEARTBEAT: "1", RELAY_RESUME_TOTAL_BYTES: "16384" });
  const held = Array.from({ length: 4 }, () => asked("!endless !slow=3600", { url: full.url }));
  const reading = held.map((stream) => read(stream).catch(() => {}));
  await until(async () => (await counted(full.url, "relay_streams_active")) === 4);
  const at = place();
  const { text, last } = await read(asked("!tokens=50", { url: full.url, at }));
  assert.equal(text, tokens(50));
  assert.equal(last.reason, "complete");
  assert.deepEqual({ ...at, key: "" }, { key: "", id: "", after: 0, plain: true });
  const stream = asked("!endless", { url: full.url });
  await read(stream, (text) => text.includes("tok5 ") && stream.stop());
  await until(async () => (await counted(full.url, "relay_streams_active")) === 4);
  for (const one of held) one.leave();
  await Promise.all(reading);
  await full.stop();
});

test("an answer that the relay does not hold is not asked for again", async () => {
  /** @type {(string | undefined)[]} */
  const keys = [];
  const { url, close } = await server((request, response) => {
    const key = request.headersDistinct["idempotency-key"]?.[0];
    keys.push(key);
    if (key) response.writeHead(503, { "Content-Type": "application/json" }).end('{"error": "no room", "code": "resume_unavailable"}');
    else response.writeHead(200, { "Content-Type": "text/event-stream" }).write('data: {"type":"chunk","content":"a"}\n\n', () => response.destroy());
  });
  const at = place();
  await assert.rejects(read(asked("x", { url, at })), { code: "connection_lost" });
  assert.deepEqual(keys, [at.key, undefined]);
  const none = await server((_, response) => response.writeHead(503).end('{"error": "no room", "code": "resume_unavailable"}'));
  await assert.rejects(read(asked("x", { url: none.url })), { code: "resume_unavailable" });
  none.close();
  close();
});

test("a connection that was there for long counts, also without an event", async () => {
  let requests = 0;
  const { url, close } = await server((_, response) => {
    requests++;
    response.writeHead(200, { "Content-Type": "text/event-stream", "X-Stream-ID": "abc" });
    response.flushHeaders();
    if (requests <= 15) setTimeout(() => response.write(": ping\n", () => response.destroy()), 20);
    else response.end('id: 1\ndata: {"type":"final_end","reason":"complete"}\n\n');
  });
  assert.equal((await read(asked("x", { url, patience: { firstWait: 1, steady: 5 } }))).last.type, "final_end");
  requests = 0;
  await assert.rejects(read(asked("x", { url, patience: { firstWait: 1, steady: 60_000 } })), { code: "connection_lost" });
  close();
});
