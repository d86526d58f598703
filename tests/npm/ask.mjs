// A client with the npm package `openai`: node ask.mjs URL QUESTION. The answer goes to standard output as it
// comes, a failure to standard error; Ctrl-C stops the answer.
import process from "node:process";
import OpenAI from "openai";

const [url, question] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
try {
  const stream = await client.chat.completions.create({
    model: "demo",
    messages: [{ role: "user", content: question }],
    stream: true,
  });
  process.once("SIGINT", () => stream.controller.abort());
  for await (const chunk of stream) {
    process.stdout.write(chunk.choices[0]?.delta.content ?? "");
  }
} catch (error) {
  process.stderr.write(error.message);
  process.exitCode = 1;
}
