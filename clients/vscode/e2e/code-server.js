// VS Code's server, as the npm package code-server has it: fetched once, of one version, whose bytes are known.
'use strict';

const { execFile } = require('node:child_process');
const fs = require('node:fs/promises');
const path = require('node:path');
const { promisify } = require('node:util');

const run = promisify(execFile);

const VERSION = '4.100.3';
const INTEGRITY =
  'sha512-q/Fh2DOxCRNhC/WiG/6sAhSKnj7ZACTVBaeeZ+rWjol//0FCbl/qg1ln5ecZ99jYcfqMxZZAyWcN+YBIo0DgpA==';

/** What is fetched and made for these tests; not committed. */
const CACHE = path.join(__dirname, '..', '.vscode-test');

/**
 * Return the path of the server's program; the first time it is fetched from npm.
 * @returns {Promise<string>}
 */
async function codeServer() {
  const folder = path.join(CACHE, `code-server-${VERSION}`);
  if (!(await exists(folder))) {
    await fs.mkdir(CACHE, { recursive: true });
    const unfinished = await fs.mkdtemp(path.join(CACHE, 'fetching-'));
    await fetchInto(unfinished);
    await fs.rename(path.join(unfinished, 'package', 'lib', 'vscode'), folder);
    await fs.rm(unfinished, { recursive: true });
  }
  return path.join(folder, 'out', 'server-main.js');
}

/** @param {string} folder */
async function fetchInto(folder) {
  const { stdout } = await run('npm', ['pack', '--json', `code-server@${VERSION}`], { cwd: folder });
  const [{ filename, integrity }] = JSON.parse(stdout);
  if (integrity !== INTEGRITY) throw new Error(`code-server ${VERSION} is not what it was: ${integrity}`);
  await run('tar', ['-xzf', filename, 'package/lib/vscode'], { cwd: folder });
  // Without scripts nothing is compiled: search, terminals and watched files are missing, which no test needs.
  // What is installed is in its npm-shrinkwrap.json, with hashes.
  const install = ['ci', '--legacy-peer-deps', '--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  await run('npm', install, { cwd: path.join(folder, 'package', 'lib', 'vscode') });
}

/** @param {string} file */
async function exists(file) {
  return fs.access(file).then(
    () => true,
    () => false,
  );
}

module.exports = { CACHE, codeServer };
