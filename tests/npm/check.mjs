// What the npm package `openai` makes of a relay: node check.mjs URL KEY prints one JSON object.
import process from "node:process";
import OpenAI from "openai";

const [url, key] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const asking = (question, more = {}) => ({
  model: "demo",
  messages: [{ role: "user", content: question }],
  ...more,
});
const ask = (question, more) => client.chat.completions.create(asking(question, more));

async function streamed(question, more = {}) {
  const heard = { content: "", reasoning: "", usage: null, stops: [] };
  for await (const chunk of await ask(question, { stream: true, ...more })) {
    const [choice] = chunk.choices;
    heard.content += choice?.delta.content ?? "";
    heard.reasoning += choice?.delta.reasoning_content ?? "";
    heard.usage = chunk.usage ?? heard.usage;
    if (choice?.finish_reason) heard.stops.push(choice.finish_reason);
  }
  return heard;
}

async function failed(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null, message: error.message };
  }
}

async function left() {
  for await (const chunk of await ask("!endless", { stream: true })) {
    if (chunk.choices[0].delta.content) break;
  }
}

const models = [];
for await (const model of client.models.list()) models.push(model.id);
const whole = await ask("!reason !tokens=3");
const found = {
  models,
  model: (await client.models.retrieve("demo")).id,
  whole: whole.choices[0].message,
  usage: whole.usage,
  streamed: await streamed("!reason !tokens=3", { stream_options: { include_usage: true } }),
  slow: await streamed("!tokens=6 !pause=0.5"),
  noModel: await failed(ask("hi", { model: "gpt-4o" })),
  noKey: await failed(new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong-key" }).models.list()),
  twoAnswers: await failed(ask("hi", { n: 2 })),
  rateLimit: await failed(ask("!abort=429")),
  modelFailed: await failed(ask("!abort=500")),
  midStream: await failed(streamed("!abort=429")),
};
await left();
process.stdout.write(JSON.stringify(found));
