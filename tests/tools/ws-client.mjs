// Signs in, talks to itself, pings and says goodbye with the package ws of npm: node ws-client.mjs MODULES URL TOKEN ACCOUNT
// With `stay` behind it, it waits for the close of the gateway in place of saying goodbye. Prints a line for each step.
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, url, token, account, stay] = process.argv.slice(2);
const { WebSocket } = createRequire(join(modules, "node_modules", "x.js"))("ws");

// Protocol Buffers whose numbers and lengths are below 128.
const field = (number, value) => typeof value == "number" ? [number << 3, value]
  : [number << 3 | 2, ...(n => n < 128 ? [n] : [n & 127 | 128, n >> 7])(Buffer.byteLength(value)), ...Buffer.from(value)];
const counted = bytes => { const head = Buffer.alloc(4); head.writeUInt32BE(bytes.length); return [...head, ...bytes] };
const packet = (header, body) => Buffer.from([0x31, 0x32, 0x33, 0x34, ...counted(header), ...counted(body)]);
const has = (data, text) => data.includes(text);

setTimeout(() => { console.log("no end in a minute"); process.exit(1) }, 60e3).unref();
const socket = new WebSocket(url, { perMessageDeflate: true });
const events = [], waiting = [];
const put = event => (waiting.shift() ?? (event => events.push(event)))(event);
const next = () => new Promise(done => events.length ? done(events.shift()) : waiting.push(done));
socket.on("open", () => put(["open"]));
socket.on("message", (data, isBinary) => put([isBinary ? "binary" : "text", data]));
socket.on("pong", data => put(["pong", data]));
socket.on("close", (code, reason) => put(["close", code, reason.toString()]));
socket.on("error", error => { console.log(`error ${error.message}`); process.exit(1) });
async function expect(kind, text = "") {
  const [found, data] = await next();
  if (found != kind || (text && !has(data, text))) { console.log(`${kind} expected, not ${found} ${data}`); process.exit(1) }
}

await expect("open");
console.log(`open extensions=${socket.extensions}`);
socket.send(packet([...field(1, "login.signin"), ...field(3, 1)], field(1, token)));
await expect("binary", account);
console.log("signed in");
if (!stay) {
  // In two frames: a fragmented message is one message.
  const talk = packet([...field(1, "chat.user.talk"), ...field(3, 2), ...field(6, account)], [...field(1, 1), ...field(2, "hello me")]);
  socket.send(talk.subarray(0, 20), { fin: false });
  socket.send(talk.subarray(20), { fin: true });
  // The answer and the push, in either order.
  const texts = [(await next())[1], (await next())[1]];
  if (!texts.some(data => has(data, "hello me"))) { console.log("no push"); process.exit(1) }
  console.log("talked");
  socket.ping("are you there");
  await expect("pong", "are you there");
  console.log("pong");
  socket.close(1000);
}
// In front of a kick comes its notice.
let kind, code, reason;
do [kind, code, reason] = await next(); while (kind == "binary");
console.log(`${kind} ${code} ${reason}`);
