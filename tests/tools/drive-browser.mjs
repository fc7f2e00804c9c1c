// Drives one page of headless Chromium, over its debugging pipe: node drive-browser.mjs BROWSER PROFILE PAGE
// Each line on standard input is JavaScript that is evaluated in the page, `run FILE` with such in it, or `screenshot FILE`; each
// line on standard output is what came of it, as JSON. The end of the input ends the browser.
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [browser, profile, page] = process.argv.slice(2);
const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
  "--window-size=900,720", `--user-data-dir=${profile}`, "--remote-debugging-pipe", "about:blank"];
const child = spawn(browser, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
child.on("exit", code => process.exit(code ?? 1));
// A browser that hangs must not hang a test.
setTimeout(() => { child.kill("SIGKILL"); process.exit(1) }, 120e3).unref();

// Messages end with a NUL.
const [, , , toBrowser, fromBrowser] = child.stdio;
const answers = new Map();
let buffered = "", last = 0;
fromBrowser.setEncoding("utf8").on("data", chunk => {
  const messages = (buffered + chunk).split("\0");
  buffered = messages.pop();
  for (const message of messages.map(JSON.parse)) {
    // An answer has an id, an event a method.
    const key = message.id ?? message.method;
    answers.get(key)?.(message);
    answers.delete(key);
  }
});
async function call(method, params, sessionId) {
  const id = ++last;
  toBrowser.write(JSON.stringify({ id, method, params, sessionId }) + "\0");
  const { error, result } = await new Promise(done => answers.set(id, done));
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}

const { targetId } = await call("Target.createTarget", { url: "about:blank" });
const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
async function evaluate(expression) {
  const { result, exceptionDetails } =
    await call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }, sessionId);
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value ?? null;
}
await call("Page.enable", {}, sessionId);
const loaded = new Promise(done => answers.set("Page.loadEventFired", done));
await call("Page.navigate", { url: page }, sessionId);
await loaded;
for await (const line of createInterface({ input: process.stdin })) {
  if (line.startsWith("screenshot ")) {
    const { data } = await call("Page.captureScreenshot", { format: "png" }, sessionId);
    writeFileSync(line.slice("screenshot ".length), Buffer.from(data, "base64"));
    console.log("null");
  } else if (line.startsWith("run ")) {
    await evaluate(`${readFileSync(line.slice("run ".length), "utf8")}; null`);
    console.log("null");
  } else {
    console.log(JSON.stringify(await evaluate(line)));
  }
}
child.kill();
