const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { test } = require("node:test");

const ROOT = path.join(__dirname, "..");
const json = (/** @type {string} */ name) => JSON.parse(fs.readFileSync(path.join(ROOT, name), "utf8"));
const manifest = json("package.json");

test("every word that is said is there in Chinese, with the same places to fill, and no others", () => {
  const sources = fs.readdirSync(path.join(ROOT, "src")).map((name) => fs.readFileSync(path.join(ROOT, "src", name), "utf8"));
  const said = sources.flatMap((text) => Array.from(text.matchAll(/l10n\.t\(\s*"((?:[^"\\]|\\.)*)"/g), ([, words]) => words));
  const chinese = json("l10n/bundle.l10n.zh-cn.json");
  assert.deepEqual(Object.keys(chinese).sort(), [...new Set(said)].sort());
  const places = (/** @type {string} */ words) => words.match(/\{\d\}/g)?.sort();
  for (const [english, words] of Object.entries(chinese)) assert.deepEqual(places(words), places(english), english);
});

test("every word of the manifest is there in both languages", () => {
  const used = Array.from(JSON.stringify(manifest).matchAll(/"%([^%"]+)%"/g), ([, name]) => name);
  for (const name of ["package.nls.json", "package.nls.zh-cn.json"]) assert.deepEqual(Object.keys(json(name)).sort(), [...new Set(used)].sort());
});

test("every command that is offered is there, and the other way round", () => {
  const { commands, menus, keybindings } = manifest.contributes;
  const declared = commands.map((/** @type {{command: string}} */ { command }) => command);
  const source = fs.readFileSync(path.join(ROOT, "src/extension.js"), "utf8");
  const table = /const commands = \{(.*?)\n {2}\};/s.exec(source)?.[1] ?? "";
  const made = Array.from(table.matchAll(/^ {4}(\w+)[:,]/gm), ([, name]) => `anythingllmRelay.${name}`);
  assert.deepEqual([...made].sort(), [...declared].sort());
  const offered = [...Object.values(menus).flat(), ...keybindings].flatMap(({ command }) => command ?? []);
  for (const command of offered) assert.ok(declared.includes(command), command);
});

test("where a key is sent is not taken from a workspace", () => {
  const { properties } = manifest.contributes.configuration;
  assert.equal(properties["anythingllmRelay.url"].scope, "machine");
  assert.deepEqual(manifest.capabilities.untrustedWorkspaces.restrictedConfigurations.sort(), Object.keys(properties).sort());
});
