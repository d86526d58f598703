// A relay in Node without packages: reads lines, parses JSON, writes events.

import http from "node:http";

const { ANYTHINGLLM_BASE_URL, ANYTHINGLLM_WORKSPACE_SLUG, ANYTHINGLLM_API_KEY, PORT } = process.env;
const url = `${ANYTHINGLLM_BASE_URL}/api/v1/workspace/${ANYTHINGLLM_WORKSPACE_SLUG}/stream-chat`;
const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity, maxFreeSockets: Infinity });
const headers = { Authorization: `Bearer ${ANYTHINGLLM_API_KEY}`, "Content-Type": "application/json" };

const server = http.createServer((request, response) => {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (data) => (body += data));
  request.on("end", () => {
    if (request.method !== "POST" || request.url !== "/stream-ask") {
      response.writeHead(404).end();
      return;
    }
    answer(JSON.parse(body).question, response);
  });
});

function answer(question, response) {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  response.flushHeaders();
  const asked = http.request(url, { method: "POST", agent, headers }, (reply) => {
    let rest = "";
    reply.setEncoding("utf8");
    reply.on("data", (data) => {
      const lines = (rest + data).split("\n");
      rest = lines.pop();
      let goOn = true;
      for (const line of lines) {
        if (line.startsWith("data: ")) goOn = pass(JSON.parse(line.slice(6)), response);
      }
      if (!goOn) {
        reply.pause();
        response.once("drain", () => reply.resume());
      }
    });
    reply.on("end", () => response.end());
    reply.on("error", () => response.destroy());
  });
  asked.on("error", () => response.destroy());
  asked.end(JSON.stringify({ message: question, mode: "chat" }));
  response.on("close", () => {
    if (!response.writableEnded) asked.destroy();
  });
}

function pass(frame, response) {
  switch (frame.type) {
    case "textResponseChunk":
      if (!frame.textResponse) return true;
      return event(response, "chunk", { content: frame.textResponse });
    case "abort":
      return event(response, "error", { message: frame.error });
    case "finalizeResponseStream":
      return event(response, "final_end", { sources: frame.sources, metrics: frame.metrics });
    default:
      return true;
  }
}

function event(response, name, data) {
  return response.write(`event: ${name}\ndata: ${JSON.stringify({ type: name, ...data })}\n\n`);
}

server.listen({ port: Number(PORT), host: "127.0.0.1", backlog: 4096 });
