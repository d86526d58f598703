// A TCP connection between two that a test can cut, and listen at.
'use strict';

const net = require('node:net');
const { once } = require('node:events');
const { EventEmitter } = require('node:events');

/**
 * Passes bytes on to a port of this machine. Emits `closed` with the time (as Date.now() has it) when the side that
 * called has closed a connection.
 */
class Line extends EventEmitter {
  /** @param {number} target the port that is called */
  constructor(target) {
    super();
    /** What the callers said, all connections one after another. */
    this.said = '';
    /** Whether nobody is let through. */
    this.down = false;
    /** Whether what is said back is kept from the callers. */
    this.held = false;
    this.target = target;
    /** @type {Set<net.Socket>} */
    this.callers = new Set();
    this.server = net.createServer((caller) => this.#connect(caller));
  }

  /** @param {number} target */
  static async to(target) {
    const line = new Line(target);
    line.server.listen(0, '127.0.0.1');
    await once(line.server, 'listening');
    return line;
  }

  get url() {
    const { port } = /** @type {net.AddressInfo} */ (this.server.address());
    return `http://127.0.0.1:${port}`;
  }

  /** Lose all connections, and all that are tried until it is mended. */
  cut() {
    this.down = true;
    for (const caller of this.callers) caller.destroy();
  }

  /** Let callers through again. */
  mend() {
    this.down = false;
  }

  /** Keep answers back until they are released. */
  hold() {
    this.held = true;
    for (const caller of this.callers) caller.cork();
  }

  release() {
    this.held = false;
    for (const caller of this.callers) caller.uncork();
  }

  async close() {
    this.cut();
    this.server.close();
    await once(this.server, 'close');
  }

  /** @param {net.Socket} caller */
  #connect(caller) {
    caller.on('error', () => {});
    if (this.down) {
      caller.destroy();
      return;
    }
    this.callers.add(caller);
    const called = net.connect(this.target, '127.0.0.1');
    called.on('error', () => caller.destroy());
    caller.on('data', (bytes) => (this.said += bytes.toString()));
    caller.once('end', () => this.emit('closed', Date.now()));
    caller.once('error', () => this.emit('closed', Date.now()));
    caller.on('close', () => {
      this.callers.delete(caller);
      called.destroy();
    });
    called.on('close', () => caller.destroy());
    caller.pipe(called);
    called.on('data', (bytes) => {
      caller.write(bytes);
      if (this.held) caller.cork();
    });
  }
}

module.exports = { Line };
