const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { test } = require("node:test");
const zlib = require("node:zlib");
const { Decoder } = require("../src/sse.js");

/** @type {any[]} the relay's own */
const VECTORS = JSON.parse(fs.readFileSync(path.join(__dirname, "../../../tests/sse-vectors.json"), "utf8"));

/** @param {Buffer} data @param {number[]} sizes repeated */
function pieces(data, sizes) {
  const found = [];
  for (let at = 0, n = 0; at < data.length; n++) found.push(data.subarray(at, (at += sizes[n % sizes.length])));
  return found;
}

/** Whole, byte by byte, in its own way, and short ones in every two. @param {any} vector @param {Buffer} data */
function* cuttings({ chunking }, data) {
  yield [data];
  yield pieces(data, [1]);
  if (Array.isArray(chunking)) yield pieces(data, chunking);
  if (data.length < 2000) for (let at = 1; at < data.length; at++) yield [data.subarray(0, at), data.subarray(at)];
}

/** @param {Buffer[]} reads */
function decoded(reads) {
  const decoder = new Decoder();
  return reads.flatMap((bytes) => decoder.feed(bytes));
}

for (const vector of VECTORS) {
  test(`what Chromium makes of it, however the bytes arrive: ${vector.name}`, () => {
    const zipped = vector.input_gzip_base64;
    const data = zipped ? zlib.gunzipSync(Buffer.from(zipped, "base64")) : Buffer.from(vector.input_base64, "base64");
    const told = vector.expect_gzip_base64
      ? JSON.parse(zlib.gunzipSync(Buffer.from(vector.expect_gzip_base64, "base64")).toString())
      : vector.expect;
    const expected = told.map((/** @type {any} */ { event, data: text, id }) => ({ event, data: text, id }));
    for (const reads of cuttings(vector, data)) assert.deepEqual(decoded(reads), expected);
    if (!vector.emitted_after) return;
    let out = 0;
    const decoder = new Decoder();
    const counts = pieces(data, vector.chunking).map((bytes) => (out += decoder.feed(bytes).length));
    assert.deepEqual(counts, vector.emitted_after);
  });
}

test("an event without an end is not held for ever", () => {
  const decoder = new Decoder();
  const bytes = Buffer.alloc(2 ** 20, "x");
  assert.throws(() => {
    for (let n = 0; n < 40; n++) decoder.feed(bytes);
  }, RangeError);
});
