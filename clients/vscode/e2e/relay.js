// The relay and the stand-in for AnythingLLM behind it, as processes.
'use strict';

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs/promises');
const os = require('node:os');
const path = require('node:path');
const { Line } = require('./line');

const ROOT = path.join(__dirname, '..', '..', '..');
const PYTHON = process.env.PYTHON ?? path.join(ROOT, '.venv', 'bin', 'python');

class Relay {
  /**
   * @param {string} url
   * @param {Line} upstream between the relay and the stand-in
   * @param {() => Promise<void>} stop
   * @param {string} key
   */
  constructor(url, upstream, stop, key) {
    this.url = url;
    this.upstream = upstream;
    this.stop = stop;
    this.key = key;
  }

  /**
   * @param {{key?: string, settings?: Record<string, string>}} [options] the key that clients need, and other settings
   * @returns {Promise<Relay>}
   */
  static async start({ key = '', settings = {} } = {}) {
    const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'relay-'));
    const standin = run(folder, ['-m', 'relay.standin', '--port', '0'], {});
    const [, address, theirs, workspace] = await standin.says(
      /url +(\S+)\nkey +(\S+)\nworkspace +(\S+)\n/,
    );
    const upstream = await Line.to(Number(new URL(address).port));
    const relay = run(folder, [path.join(ROOT, 'run.py')], {
      ANYTHINGLLM_BASE_URL: upstream.url,
      ANYTHINGLLM_API_KEY: theirs,
      ANYTHINGLLM_WORKSPACE_SLUG: workspace,
      RELAY_HOST: '127.0.0.1',
      RELAY_PORT: '0',
      RELAY_API_KEYS: key,
      RELAY_SHUTDOWN_GRACE: '0',
      ...settings,
    });
    const [, url] = await relay.says(/^Relay +(\S+)/m);
    const stop = async () => {
      await relay.end();
      await standin.end();
      await upstream.close();
      await fs.rm(folder, { recursive: true });
    };
    return new Relay(url, upstream, stop, key);
  }

  /**
   * What the relay counted.
   * @param {string} name with labels, e.g. `relay_streams_total{outcome="cancelled"}`
   */
  async counted(name) {
    const headers = this.key ? { Authorization: `Bearer ${this.key}` } : undefined;
    const text = await (await fetch(`${this.url}/metrics`, { headers })).text();
    const line = text.split('\n').find((one) => one.startsWith(`${name} `));
    return line === undefined ? 0 : Number(line.split(' ')[1]);
  }

  /** How many questions reached AnythingLLM. */
  get asked() {
    return this.upstream.said.split('/stream-chat HTTP/1.1').length - 1;
  }
}

/**
 * @param {string} folder where there is no `.env`
 * @param {string[]} words
 * @param {Record<string, string>} settings
 */
function run(folder, words, settings) {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(RELAY|ANYTHINGLLM)_/.test(name));
  const env = { ...Object.fromEntries(inherited), ...settings, PYTHONPATH: ROOT, PYTHONUNBUFFERED: '1' };
  const child = spawn(PYTHON, words, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let heard = '';
  child.stdout.on('data', (bytes) => (heard += bytes));
  child.stderr.on('data', (bytes) => (heard += bytes));
  return {
    /** @param {RegExp} pattern @returns {Promise<RegExpMatchArray>} */
    async says(pattern) {
      const ended = once(child, 'exit');
      for (;;) {
        const found = heard.match(pattern);
        if (found !== null) return found;
        const what = await Promise.race([once(child.stdout, 'data'), ended.then(() => 'ended')]);
        if (what === 'ended' && !pattern.test(heard)) throw new Error(`${words.join(' ')} ended:\n${heard}`);
      }
    },
    async end() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGINT');
      await once(child, 'exit');
    },
  };
}

module.exports = { Relay };
