/** The networks that tests make are what they say: real sockets, in processes of their own. */
import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from './eventually.ts';
import { type Host, Internet, NO_NAMESPACES, skipNote } from './namespaces.ts';
import { HANG_MS } from './patience.ts';

const PORT = 7600;
/** What must not answer is asked for this long. An answer that is to come is waited for like anything else. */
const UNANSWERED_MS = 700;
/** Says to whoever connects which address it is seen at. */
const SERVER = `require('node:net').createServer((socket) => socket.end(socket.remoteAddress)).listen(${PORT}, '0.0.0.0', () => console.log('listens'))`;
const CLIENT = `
const socket = require('node:net').connect(${PORT}, process.argv[1]);
const end = (text) => { process.stdout.write(text); process.exit(); };
socket.on('data', (data) => end(String(data))).on('error', (error) => end(error.code));
setTimeout(() => end('no answer'), Number(process.argv[2]));`;
/** Prints what it is sent, one line each. */
const EAR = `require('node:dgram').createSocket('udp4').on('message', (data) => console.log(String(data))).bind(${PORT}, () => console.log('listens'))`;
const MOUTH = `
const socket = require('node:dgram').createSocket('udp4');
socket.send(process.argv[2], ${PORT}, process.argv[1], () => socket.close());`;

async function started(host: Host, script: string): Promise<{ child: ChildProcess; lines: string[] }> {
  const child = host.spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines: string[] = [];
  child.stdout!.on('data', (data) => lines.push(...String(data).trim().split('\n')));
  await eventually('it listens', () => lines.includes('listens'));
  return { child, lines };
}

const asks = (from: Host, address: string, patienceMs = HANG_MS): Promise<string> =>
  from.run(process.execPath, ['-e', CLIENT, address, String(patienceMs)]);
const says = (from: Host, to: Host, text: string): Promise<string> =>
  from.run(process.execPath, ['-e', MOUTH, to.address, text]);

describe.skipIf(NO_NAMESPACES !== null)(`networks made of namespaces${skipNote(NO_NAMESPACES)}`, () => {
  let net: Internet;
  afterEach(() => net[Symbol.asyncDispose]());

  it('hosts reach each other at addresses of their own', async () => {
    net = await Internet.make();
    const [one, other] = [await net.host('one'), await net.host('other')];
    await started(other, SERVER);
    expect(await asks(one, other.address)).toBe(one.address);
    expect(await asks(one, '127.0.0.1')).toBe('ECONNREFUSED');
  });

  it('a host behind a home router reaches out, under its address, and is not reached', async () => {
    net = await Internet.make();
    const server = await net.host('server');
    const home = await net.home('home');
    const [desk, sofa] = [await home.host('desk'), await home.host('sofa')];
    await started(server, SERVER);
    await started(desk, SERVER);
    expect(await asks(sofa, desk.address)).toBe(sofa.address);
    expect(await asks(desk, server.address)).toBe(desk.publicAddress);
    expect(desk.publicAddress).not.toBe(desk.address);
    expect(await asks(server, desk.publicAddress, UNANSWERED_MS)).toBe('no answer');
    expect(await asks(server, desk.address)).toMatch(/^(ENETUNREACH|EHOSTUNREACH)$/);
  });

  it('a cut is one way, and is mended', async () => {
    net = await Internet.make();
    const [one, other] = [await net.host('one'), await net.host('other')];
    const [atOne, atOther] = [await started(one, EAR), await started(other, EAR)];
    const mend = await net.cut(one, other);
    await says(one, other, 'lost');
    await says(other, one, 'passes');
    await eventually('the other way passes', () => atOne.lines.includes('passes'));
    await mend();
    await says(one, other, 'later');
    await eventually('it is mended', () => atOther.lines.includes('later'));
    expect(atOther.lines).toEqual(['listens', 'later']);
  });

  it('a host that moves has another address, and not the one before', async () => {
    net = await Internet.make();
    const [server, laptop] = [await net.host('server'), await net.host('laptop')];
    const home = await net.home('home');
    await started(server, SERVER);
    const before = laptop.address;
    await laptop.moveTo(net);
    expect(laptop.address).not.toBe(before);
    expect(await asks(laptop, server.address)).toBe(laptop.address);
    await laptop.moveTo(home);
    expect(await asks(laptop, server.address)).toBe(laptop.publicAddress);
    await laptop.unplug();
    expect(await asks(laptop, server.address)).toBe('ENETUNREACH');
  });

  it('what runs there ends with it, and what a killed run left is removed by the next one', async () => {
    net = await Internet.make();
    const { child } = await started(await net.host('one'), SERVER);
    const ended = once(child, 'exit');
    await net[Symbol.asyncDispose]();
    expect(await ended).toEqual([null, 'SIGKILL']);

    const gone = spawn(process.execPath, ['-e', '']);
    await once(gone, 'exit');
    const left = `flowmesh-net-${gone.pid}-1-one`;
    execFileSync('ip', ['netns', 'add', left]);
    const listed = () => execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' });
    expect(listed()).toContain(left);
    net = await Internet.make();
    expect(listed()).not.toContain(left);
  });
});
