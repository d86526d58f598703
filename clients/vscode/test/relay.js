/** A relay with its stand-in as a process, for tests of what asks it. */

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const ROOT = path.join(__dirname, "../../..");
const PYTHON = process.env.PYTHON ?? path.join(ROOT, ".venv/bin/python");

/** Why there is none, or false. */
const MISSING = fs.existsSync(PYTHON) ? false : `NO RELAY TO ASK: ${PYTHON} is not there (make .venv/ready)`;
if (MISSING) console.error(`!!! ${MISSING} !!!`);

/**
 * @param {Record<string, string>} settings
 * @returns {Promise<{url: string, stop: () => Promise<void>}>}
 */
async function startRelay(settings = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "relay-"));
  const env = { ...process.env, RELAY_HOST: "127.0.0.1", RELAY_SHUTDOWN_GRACE: "0", PYTHONUNBUFFERED: "1", ...settings };
  const child = spawn(PYTHON, [path.join(ROOT, "run.py"), "--demo", "--port", "0"], { cwd: folder, env });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  let said = "";
  const url = await new Promise((resolve, reject) => {
    /** @param {Buffer} bytes */
    const hear = (bytes) => {
      said += bytes;
      const found = /^Relay +(\S+)/m.exec(said);
      if (found) resolve(found[1]);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    ended.then(() => reject(new Error(`the relay ended:\n${said}`)));
  });
  process.once("exit", () => child.kill()); // where a test hangs, and is ended
  const stop = async () => {
    child.kill("SIGINT");
    await ended;
    fs.rmSync(folder, { recursive: true });
  };
  return { url, stop };
}

/**
 * What the relay counted.
 * @param {string} url
 * @param {string} name with its labels
 */
async function counted(url, name) {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ")[1] ?? 0);
}

module.exports = { MISSING, counted, startRelay };
