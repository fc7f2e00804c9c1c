// The console of one gateway. On the admin listener it asks for the token, follows the event stream and can order things; on
// the monitor it asks for a snapshot each second. Text only ever becomes text nodes, never markup.

const ADMIN = document.documentElement.dataset.mode === "admin";
const SVG = "http://www.w3.org/2000/svg";
const KEPT = 300;        // samples: five minutes
const LATE_MS = 4000;    // without a snapshot: nothing here is true any more
const SHOWN_NODES = 36;  // instances that are drawn one by one

const $ = id => document.getElementById(id);

/** An element. Attributes: `on` is an object of listeners, `text` its text, false and null are left out. */
function make(space, tag, attributes = {}, children = []) {
  const node = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name === "on") Object.entries(value).forEach(([event, act]) => node.addEventListener(event, act));
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...[children].flat().filter(child => child != null));
  return node;
}
const h = (tag, attributes, ...children) => make(null, tag, attributes, children.flat());
const s = (tag, attributes, ...children) => make(SVG, tag, attributes, children.flat());

// ---- Numbers

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const count = n => n >= 1e7 ? `${tenth.format(n / 1e6)} M` : whole.format(n);
const rate = n => n > 0 && n < 10 ? tenth.format(n) : count(n);
const sum = numbers => numbers.reduce((all, n) => all + n, 0);
function bytes(n) {
  const unit = n < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(n) / 10));
  return [tenth.format(n / 1024 ** unit), ["B", "KiB", "MiB", "GiB", "TiB"][unit]];
}
function seconds(n) {
  if (n == null) return ["–", ""];
  if (n < 1) return [n < .0995 ? (n * 1e3).toFixed(1) : whole.format(n * 1e3), "ms"];
  if (n < 120) return [n < 10 ? n.toFixed(1) : whole.format(n), "s"];
  if (n < 7200) return [whole.format(n / 60), "min"];
  return n < 172800 ? [whole.format(n / 3600), "h"] : [whole.format(n / 86400), "d"];
}
const span = n => n === 0 ? "0" : seconds(n).join(" ").trim();

/** The value below which this part of all lies, out of a histogram; within a bucket it is taken to be spread evenly. */
function quantile(bounds, counts, part) {
  const all = sum(counts);
  if (!all) return null;
  let rest = all * part;
  for (const [at, n] of counts.entries()) {
    const [from, to] = [at ? bounds[at - 1] : 0, bounds[at] ?? bounds.at(-1)];
    if (rest <= n) return from + (to - from) * (n ? rest / n : 0);
    rest -= n;
  }
  return bounds.at(-1);
}

// ---- What is known

let last = null;      // the last snapshot
let heard = 0;        // when it came
let samples = [];     // rates and levels, the last one last
let details = { links: [], status: null };   // what the API says besides; the page of the administrator only
let orders = new Set();                        // paths that the API has

const difference = (now, before = {}) =>
  Object.fromEntries(Object.entries(now).map(([key, n]) => [key, Math.max(0, n - (before[key] ?? 0))]));

function take(snapshot) {
  const before = last;
  const is_same = before && before.gateway === snapshot.gateway;
  // The same snapshot once more is no news.
  if (is_same && before.uptime_ms === snapshot.uptime_ms) return;
  [last, heard] = [snapshot, performance.now()];
  const dt = is_same ? (snapshot.uptime_ms - before.uptime_ms) / 1000 : 0;
  // Another life of the process: what grew begins anew.
  if (before && dt <= 0) samples = [];
  const per = (now, then) => dt > 0 ? Math.max(0, now - then) / dt : 0;
  const per_key = (now, then) => Object.fromEntries(
    Object.entries(difference(now, then)).map(([key, n]) => [key, n / dt]));
  const answered = dt > 0 ? snapshot.latency.counts.map((n, at) => n - before.latency.counts[at]) : [];
  const key = row => `${row.service}\n${row.instance}`;
  const sent = new Map((before?.instances ?? []).map(row => [key(row), row.requests]));
  snapshot.instances.forEach(row => { row.rate = dt > 0 ? per(row.requests, sent.get(key(row)) ?? row.requests) : 0 });
  samples.push({
    at: heard,
    logins_all: snapshot.logins, closes_all: snapshot.closes,
    requests: dt > 0 ? per(snapshot.requests_received, before.requests_received) : null,
    pushes: dt > 0 ? per(snapshot.pushes_received, before.pushes_received) : null,
    p50: quantile(snapshot.latency.bounds_seconds, answered, .5),
    p99: quantile(snapshot.latency.bounds_seconds, answered, .99),
    logins: dt > 0 ? per_key(snapshot.logins, before.logins) : {},
    closes: dt > 0 ? sum(Object.values(per_key(snapshot.closes, before.closes))) : null,
    connections: snapshot.connections, by_transport: snapshot.by_transport,
    queued: snapshot.queued_bytes,
    lag: Math.max(0, ...snapshot.loops.map(loop => loop.lag_seconds)),
    overload: snapshot.overload_level,
  });
  if (samples.length > KEPT) samples.shift();
  show();
}

// ---- What is wrong

const SIGNS = { good: "✓", warn: "▲", bad: "✕", new: "◌" };
const STATES = { healthy: "good", warming: "new", dialling: "warn", ejected: "warn", broken: "bad", leaving: "warn" };
const kind = row => STATES[row.state] ?? "warn";
const sign = of => h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[of] + " ");

function why(row) {
  const links = details.links.filter(link => link.service === row.service && link.instance === row.instance);
  const worst = links.find(link => link.state === row.state) ?? links[0];
  return worst ? [worst.why.replaceAll("_", " "), worst.last_trouble].filter(Boolean).join("; ") : "";
}

/** Each problem as [kind, headline, detail], the worst first. */
function problems() {
  const found = [], say = (of, text, detail = "") => found.push([of, text, detail]);
  const { instances, loops, conditions } = last;
  if (last.draining) say("warn", "Draining", `${count(last.connections)} connections are left`);
  else if (!last.ready) say("bad", "Not ready", last.reasons.join("; "));
  const level = last.overload_level;
  if (level) say(level > 1 ? "bad" : "warn", `Overload, level ${level}`, ["", "logins are refused", "and the largest queues shed", "and the newest connections closed"][Math.min(level, 3)]);
  for (const state of ["broken", "ejected", "dialling", "warming"]) {
    const rows = instances.filter(row => row.state === state);
    if (rows.length && rows.length <= 3) rows.forEach(row => say(kind(row), `${row.instance} ${state}`, [`${row.service}, ${row.zone}`, why(row)].filter(Boolean).join(": ")));
    else if (rows.length) say(kind(rows[0]), `${rows.length} instances ${state}`, rows.map(row => row.instance).join(", "));
  }
  const served = Map.groupBy(instances, row => `${row.zone} has no healthy ${row.service}`);
  for (const [text, rows] of served) if (rows.every(row => row.healthy_links === 0)) say("bad", text, "its accounts go to other zones, or get 300");
  loops.forEach((loop, at) => { if (loop.lag_seconds >= .2) say(loop.lag_seconds >= 1 ? "bad" : "warn", `Worker ${at} is ${span(loop.lag_seconds)} late`, `${count(loop.connections)} connections wait for it`) });
  const full = last.max_connections ? last.connections / last.max_connections : 0;
  if (full >= .9) say(full >= 1 ? "bad" : "warn", `${Math.floor(full * 100)} % of the connections it may have`, `${count(last.connections)} of ${count(last.max_connections)}`);
  const logins = recent("logins_all", 60), failed = sum(Object.values(logins)) - (logins.ok ?? 0);
  if (failed >= 5 && failed > .2 * sum(Object.values(logins))) say("warn", `${Math.round(100 * failed / sum(Object.values(logins)))} % of logins fail`, ranked(logins).filter(([name]) => name !== "ok").map(([name, n]) => `${name} ${n}`).join(", "));
  const { p99 } = samples.at(-1);
  if (p99 > 1) say("warn", `Answers take ${span(p99)}`, "99th of 100, in the last second");
  for (const name of Object.keys(conditions)) if (!["instance_lost", "zone_empty", "zone_fallback", "overload", "connections_full", "worker_late"].includes(name)) say("warn", name.replaceAll("_", " "), "see the events");
  return found.sort((one, other) => (other[0] === "bad") - (one[0] === "bad"));
}

const ranked = counts => Object.entries(counts).filter(([, n]) => n > 0).sort((one, other) => other[1] - one[1]);
/** By how much counts grew in the last seconds. */
function recent(what, within) {
  const from = samples.find(sample => sample.at >= heard - within * 1000) ?? samples.at(-1);
  return difference(samples.at(-1)[what], from[what]);
}

// ---- Drawing

/** Replaces what is in a node only if it is something else: whoever reads or points at it is left in peace. */
function put(node, children, key) {
  if (key != null && node.dataset.key === key) return;
  if (key != null) node.dataset.key = key;
  node.replaceChildren(...children);
}

function show() {
  if (!last) return;
  $("board").hidden = false;
  $("name").textContent = last.gateway;
  $("about").textContent = `version ${last.version}, up ${span(last.uptime_ms / 1000)}`;
  const found = problems();
  const worst = found[0]?.[0] ?? "good";
  document.title = `${found.length ? `${SIGNS[worst]} ${found.length} – ` : ""}${last.gateway}`;
  const healthy = last.instances.filter(row => row.state === "healthy").length;
  const shown = found.length ? found : [["good", "All is well", `ready, ${healthy} of ${last.instances.length} instances healthy`]];
  put($("verdict"), shown.map(([of, text, detail]) => h("li", { class: of }, sign(of), text, detail && h("small", {}, detail))), JSON.stringify(shown.map(([of, text, detail]) => [of, text.replace(/[\d.,]+ (ms|s)/, ""), of === "good" ? "" : detail])));
  tiles();
  map();
  chart($("chart-requests"), [["requests", "--one", samples.map(of => of.requests)], ["pushes", "--two", samples.map(of => of.pushes), true]], rate);
  chart($("chart-latency"), [["p50", "--one", samples.map(of => of.p50)], ["p99", "--two", samples.map(of => of.p99), true]], span);
  transports();
  tally($("logins"), "result", "logins_all", last.logins, name => name === "ok" ? "good" : "warn");
  tally($("closes"), "reason", "closes_all", last.closes, () => "");
  workers();
  live();
}

function live() {
  const late = performance.now() - heard > LATE_MS;
  const state = !last ? "wait" : late ? "lost" : "live";
  $("live").dataset.state = state;
  $("live").lastChild.textContent = { wait: "connecting", live: "live", lost: `no news for ${span((performance.now() - heard) / 1000)}` }[state];
}
setInterval(live, 1000);

function tile(name, value, unit, sub, values, of = "") {
  const color = of ? `var(--${of})` : "var(--one)";
  return h("div", { class: of }, h("dt", {}, name),
    h("dd", {}, h("div", { class: "value" }, of && sign(of), value, unit && h("span", {}, unit)), h("div", { class: "sub", title: sub }, sub), spark(values, color)));
}

function spark(values, color) {
  const [wide, high] = [120, 24], top = Math.max(...values.map(n => n ?? 0), 1e-9);
  const points = values.map((n, at) => `${wide - (values.length - 1 - at) * wide / (KEPT - 1)},${high - 1 - (high - 3) * (n ?? 0) / top}`);
  return s("svg", { viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("polyline", { class: "line", points: points.join(" "), stroke: color, "vector-effect": "non-scaling-stroke" }));
}

function tiles() {
  const now = samples.at(-1), of = what => samples.map(sample => sample[what]);
  const full = last.max_connections ? last.connections / last.max_connections : 0;
  const ok = now.logins.ok ?? 0, failed = sum(Object.values(now.logins)) - ok;
  const [top] = ranked(recent("closes_all", 60));
  const late = last.loops.findIndex(loop => loop.lag_seconds === now.lag);
  $("tiles").replaceChildren(
    tile("Connections", count(last.connections), "", `${Math.round(full * 100)} % of ${count(last.max_connections)}`, of("connections"), full >= 1 ? "bad" : full >= .9 ? "warn" : ""),
    tile("Requests", rate(now.requests ?? 0), "/s", `${count(last.requests_pending)} unanswered`, of("requests")),
    tile("Pushes", rate(now.pushes ?? 0), "/s", `${count(last.pushes_received)} in all`, of("pushes")),
    tile("Answers, p99", ...seconds(now.p99), now.p50 == null ? "none in this second" : `p50 ${span(now.p50)}`, of("p99"), now.p99 > 1 ? "warn" : ""),
    tile("Logins", rate(ok), "/s", failed ? `${rate(failed)} /s fail` : "none fails", samples.map(sample => sample.logins.ok ?? 0)),
    tile("Closes", rate(now.closes ?? 0), "/s", top ? `last minute: ${top[0]} ${count(top[1])}` : "none for a minute", of("closes")),
    tile("Queued for clients", ...bytes(last.queued_bytes), `${count(last.queued_messages)} messages`, of("queued")),
    tile("Loop lag", ...seconds(now.lag), `worker ${late} of ${last.loops.length}`, of("lag"), now.lag >= 1 ? "bad" : now.lag >= .2 ? "warn" : ""),
    tile("Overload", last.overload_level, "", last.overload_level ? "level" : "not overloaded", of("overload"), last.overload_level > 1 ? "bad" : last.overload_level ? "warn" : ""),
  );
}

/** Lines over five minutes: [name, colour, values, dashed]. */
function chart(place, lines, say) {
  const em = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const wide = Math.max(place.clientWidth, 200), high = 9.5 * em, left = 3.6 * em, foot = 1.4 * em;
  const top = nice(Math.max(...lines.flatMap(([, , values]) => values.map(n => n ?? 0)), 0));
  const x = (at, all) => wide - 2 - (all - 1 - at) * (wide - left - 2) / (KEPT - 1), y = n => high - foot - (high - foot - .6 * em) * n / top;
  const drawn = [0, .5, 1].flatMap(part => [
    s("line", { class: "grid", x1: left, x2: wide, y1: y(top * part), y2: y(top * part) }),
    s("text", { class: "faint", x: left - .4 * em, y: y(top * part) + .25 * em, "text-anchor": "end" }, say(top * part))]);
  for (const [, color, values, dashed] of lines) {
    let pen = "M";
    const path = values.map((n, at) => n == null ? (pen = "M", "") : `${pen}${x(at, values.length).toFixed(1)},${y(n).toFixed(1)}${pen = "L", ""}`).join("");
    drawn.push(s("path", { class: "line", d: path, stroke: `var(${color})`, "stroke-dasharray": dashed ? "5 3" : null }));
  }
  const told = lines.map(([name, , values]) => `${name} ${values.at(-1) == null ? "none" : say(values.at(-1))}`);
  place.replaceChildren(
    h("p", { class: "legend" }, lines.map(([, color, , dashed], at) => h("span", {}, s("svg", { viewBox: "0 0 22 10", "aria-hidden": "true" }, s("path", { class: "line", d: "M0,5H22", stroke: `var(${color})`, "stroke-dasharray": dashed ? "5 3" : null })), told[at]))),
    s("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `The last five minutes. Now: ${told.join(", ")}` }, drawn,
      s("text", { class: "faint", x: left, y: high - .2 * em }, "5 min ago"), s("text", { class: "faint", x: wide - 2, y: high - .2 * em, "text-anchor": "end" }, "now")));
}

/** The next number above that a person likes. */
function nice(n) {
  if (!(n > 0)) return 1;
  const ten = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 3, 4, 6, 8, 10].map(step => step * ten).find(step => step >= n);
}

function transports() {
  const names = Object.keys(last.by_transport).filter(name => samples.some(of => of.by_transport[name] > 0));
  const colors = ["--one", "--two", "--three", "--four", "--five"];
  chart($("chart-connections"), (names.length ? names : ["none"]).map((name, at) => [name, colors[at % 5], samples.map(of => of.by_transport[name] ?? 0), at % 2 === 1]), n => count(n));
}

function table(caption, head, rows) {
  return h("table", {}, h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, head.map(name => h("th", { scope: "col", class: name === "Share" ? "bar" : /^(Last|All|Age|Queue|Late|Conn|Pending|Req|Order)/.test(name) ? "number" : null }, name)))),
    h("tbody", {}, rows));
}
const cell = (text, name) => h("td", { class: name }, text);
function bar(part, of = "") {
  const inner = h("i", { class: of });
  inner.style.width = `${Math.round(100 * Math.min(1, part))}%`;
  return h("td", { class: "bar", "aria-hidden": "true" }, inner);
}

function tally(place, what, kept, all, judge) {
  const now = recent(kept, 300);
  const most = Math.max(1, ...Object.values(all).map(n => n));
  const rows = ranked(all).map(([name, n]) => h("tr", {}, cell(name.replaceAll("_", " ")), cell(count(now[name] ?? 0), "number"), cell(count(n), "number"), bar(n / most, judge(name))));
  place.replaceChildren(rows.length ? table(`By ${what}`, [what[0].toUpperCase() + what.slice(1), "Last 5 min", "All", "Share"], rows) : h("p", { class: "quiet" }, "None yet."));
}

function workers() {
  const most = Math.max(1, ...last.loops.map(loop => loop.connections));
  $("workers").replaceChildren(table("Workers", ["Worker", "Late by", "Connections", "Share"], last.loops.map((loop, at) => {
    const of = loop.lag_seconds >= 1 ? "bad" : loop.lag_seconds >= .2 ? "warn" : "good";
    return h("tr", {}, h("td", { class: of }, sign(of), h("span", { class: "plain" }, at)), cell(span(loop.lag_seconds), "number"), cell(count(loop.connections), "number"), bar(loop.connections / most));
  })));
}

// ---- The picture: clients, zones, instances

function map() {
  const em = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const wide = Math.max($("map").clientWidth, 280), narrow = wide < 36 * em;
  const zones = [...Map.groupBy(last.instances, row => row.zone)].sort(([one], [other]) => one < other ? -1 : 1);
  let left = SHOWN_NODES;
  const columns = zones.map(([zone, rows]) => {
    // Where there are too many, those that are well are one.
    const sick = rows.filter(row => row.state !== "healthy"), well = rows.filter(row => row.state === "healthy");
    const shown = last.instances.length <= SHOWN_NODES ? rows : sick.slice(0, left);
    left -= shown.length;
    const rest = last.instances.length <= SHOWN_NODES ? [] : [...well, ...sick.slice(shown.length)];
    const more = rest.length ? [{ instance: `${rest.length} more`, service: "", state: rest.every(row => row.state === "healthy") ? "healthy" : "broken", rate: sum(rest.map(row => row.rate)) }] : [];
    const lost = [...Map.groupBy(rows, row => row.service)].some(([, all]) => all.every(row => row.healthy_links === 0));
    return { zone, rows: [...shown, ...more], of: lost ? "bad" : sick.length ? "warn" : "good", rate: sum(rows.map(row => row.rate)) };
  });
  const step = 2.5 * em, gap = .9 * em, box = 2 * em;
  const size = narrow ? { client: 3.6 * em, zone: 6 * em, node: 9.5 * em } : { client: 8.5 * em, zone: 10 * em, node: 15 * em };
  const free = Math.max(1, (wide - size.client - size.zone - size.node - 4) / 2);
  const [zone_x, node_x] = [size.client + free, size.client + free + size.zone + free];
  let y = 2;
  for (const column of columns) {
    column.ys = column.rows.map((_, at) => y + at * step);
    column.y = y + (column.rows.length - 1) * step / 2;
    y += column.rows.length * step + gap;
  }
  const high = Math.max(y - gap, 3 * em), middle = high / 2 - box / 2;
  const way = (x1, y1, x2, y2, of, flow) => s("path", { class: `way ${of}`, d: `M${x1},${y1 + box / 2}C${(x1 + x2) / 2},${y1 + box / 2} ${(x1 + x2) / 2},${y2 + box / 2} ${x2},${y2 + box / 2}`, "stroke-width": (1.5 + 1.6 * Math.log10(1 + flow)).toFixed(1) });
  const node = (x, y, width, of, name, detail) => s("g", {},
    s("title", {}, [name, detail].filter(Boolean).join(" ")),
    s("rect", { class: of ? `state ${of}` : "node", x: x + 1, y, width: width - 2, height: box, rx: .4 * em }),
    of && s("text", { class: `sign ${of}`, x: x + .5 * em, y: y + box / 2 + .28 * em }, SIGNS[of]),
    s("text", { x: x + (of ? 1.7 : .6) * em, y: y + box / 2 + .28 * em }, clip(name, (width - (of ? 2 : 1) * em - (detail ? detail.length * .42 * em + .6 * em : 0)) / (.45 * em))),
    detail && s("text", { class: "faint", x: x + width - .6 * em, y: y + box / 2 + .28 * em, "text-anchor": "end" }, detail));
  const drawn = columns.flatMap(column => [
    way(size.client, middle, zone_x, column.y, column.of, column.rate),
    ...column.rows.map((row, at) => way(zone_x + size.zone, column.y, node_x, column.ys[at], kind(row), row.rate)),
    node(zone_x, column.y, size.zone, column.of, column.zone, narrow ? "" : `${rate(column.rate)}/s`),
    ...column.rows.map((row, at) => node(node_x, column.ys[at], size.node, kind(row), row.instance, row.state !== "healthy" ? row.state : narrow ? "" : `${row.service} ${rate(row.rate)}/s`)),
  ]);
  drawn.push(node(0, middle, size.client, "", narrow ? "" : "Clients", count(last.connections)));
  const told = columns.map(({ zone, of, rows }) => `${zone} ${of === "good" ? "is well" : rows.filter(row => row.state !== "healthy").map(row => `${row.instance} ${row.state}`).join(", ")}`).join("; ");
  $("map").replaceChildren(columns.length ? s("svg", { viewBox: `0 0 ${wide} ${high + 2}`, width: wide, role: "img", "aria-label": `Clients to zones to instances: ${told}` }, drawn) : h("p", { class: "quiet" }, "No instance is known."));
  instances();
}

const clip = (text, room) => text.length <= room ? text : `${text.slice(0, Math.max(1, Math.floor(room) - 1))}…`;

function instances() {
  if (!$("instances").open) return;
  const place = $("instances").lastElementChild;
  const acts = orders.has("eject");
  const head = ["State", "Instance", "Service", "Zone", "Requests/s", "Queue", ADMIN && "Why", acts && "Order"].filter(Boolean);
  const rows = last.instances.map(row => {
    const mine = details.links.some(link => link.service === row.service && link.instance === row.instance && link.why === "by an operator");
    return h("tr", {}, h("td", { class: kind(row) }, sign(kind(row)), row.state), cell(row.instance), cell(row.service), cell(row.zone),
      cell(rate(row.rate), "number"), cell(bytes(row.queued_bytes).join(" "), "number"), ADMIN ? cell(why(row)) : null,
      acts ? h("td", { class: "acts" }, h("button", { type: "button", class: "small", on: { click: () => mine ? give_back(row) : eject(row) } }, mine ? "Return…" : "Eject…")) : null);
  });
  put(place, [table("Instances", head, rows)], place.contains(document.activeElement) && document.activeElement !== place ? place.dataset.key : `${performance.now()}`);
}
$("instances").addEventListener("toggle", () => last && instances());
new ResizeObserver(() => show()).observe($("board"));

// ---- The API

const token = () => sessionStorage.getItem("token");

class Refused extends Error {}

/** From a sign-in to its end, which aborts all that is asked within. */
let visit = new AbortController();

async function call(path, body) {
  const { signal } = visit;
  const answer = await fetch(`api/v1/${path}`, {
    method: body ? "POST" : "GET", body: body && JSON.stringify(body), cache: "no-store", credentials: "omit",
    headers: { authorization: `Bearer ${token()}` }, signal,
  });
  const said = await answer.json();
  signal.throwIfAborted();
  if (answer.status === 401) throw new Refused(said.error);
  if (!answer.ok) throw new Error(said.error ?? `status ${answer.status}`);
  return said;
}

const pause = ms => new Promise(done => setTimeout(done, ms));

/** Begins a visit, and follows the stream until it ends; begins again when the stream breaks off. */
async function follow() {
  visit.abort();
  visit = new AbortController();
  const { signal } = visit;
  $("leave").hidden = false;
  while (!signal.aborted) {
    let reader;
    try {
      const answer = await fetch("api/v1/stream", { headers: { authorization: `Bearer ${token()}`, accept: "text/event-stream" }, cache: "no-store", credentials: "omit", signal });
      if (!answer.ok) {
        const { error } = await answer.json();
        signal.throwIfAborted();
        if (answer.status === 401) return refuse(error);
        throw new Error(error);
      }
      signed_in(signal);
      reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done || signal.aborted) break;
        const events = (text + value).split("\n\n");
        text = events.pop();
        events.filter(event => event.startsWith("data: ")).forEach(event => take(JSON.parse(event.slice(6))));
      }
    } catch (error) {
      if (!signal.aborted) $("refused").textContent = `No answer: ${error.message}`;
    }
    reader?.cancel().catch(() => {});
    await pause(1000);
  }
}

/** Ends the visit. Nothing of what it showed stays. */
function refuse(text) {
  visit.abort();
  sessionStorage.removeItem("token");
  [last, samples, asked] = [null, [], null];
  [details, orders] = [{ links: [], status: null }, new Set()];
  $("board").hidden = true;
  $("dialog").close();
  $("bans").open = false;
  [$("dialog"), $("bans").lastElementChild, $("found"), $("said"), $("slow")].forEach(node => put(node, []));
  put($("events"), [], "");
  $("orders").querySelectorAll("button").forEach(button => { button.hidden = true });
  $("signin").hidden = false;
  $("refused").textContent = text;
  $("token").value = "";
  $("token").focus();
}

let told = null;   // of which visit more is asked for
function signed_in(signal) {
  $("signin").hidden = true;
  $("refused").textContent = "";
  if (told === signal) return;
  told = signal;
  ask_more(signal);
}

/** What is not in the stream: workers are asked for it, so it is asked for less often, and not by a page that nobody sees. */
async function ask_more(signal) {
  while (!signal.aborted) {
    try {
      if (!orders.size) {
        const known = await call("openapi.json");
        orders = new Set(Object.keys(known.paths).map(path => path.replace("/api/v1/", "")));
      }
      if (!document.hidden) {
        const [links, events, slow, status] = await Promise.all([call("links"), call("events"), call("connections?sort=queue&queued=1&limit=8"), call("status")]);
        details = { links: links.links, status };
        show_events(events.events);
        show_slow(slow.connections);
        const drains = status.draining || status.operator_drain;
        $("drain").hidden = !orders.has("drain") || !!drains;
        $("undrain").hidden = !orders.has("undrain") || !status.operator_drain;
      }
    } catch (error) {
      report(error);
    }
    await pause(5000);
  }
}

function show_events(events) {
  const shown = events.slice(0, 60);
  put($("events"), shown.length ? shown.map(event => {
    const of = event.state === "cleared" ? "good" : event.severity === "error" ? "bad" : event.severity === "warning" ? "warn" : "new";
    const about = [event.service, event.instance, event.zone].filter(Boolean).join(", ");
    return h("li", { class: of }, sign(of), h("time", { datetime: event.time }, new Date(event.time).toLocaleTimeString("en-GB")),
      h("b", {}, `${event.event.replaceAll("_", " ")} ${event.state}`), about && ` ${about}`, event.detail && h("div", { class: "quiet" }, event.detail));
  }) : [h("li", { class: "quiet" }, "None yet.")], shown[0]?.id ?? "none");
}

function show_slow(rows) {
  if ($("slow").contains(document.activeElement) && document.activeElement !== $("slow")) return;
  $("slow").replaceChildren(rows.length ? table("Channels by what waits for them", ["Account", "Queue", "Pending", "Order"], rows.map(row =>
    h("tr", {}, cell(row.account ?? row.state), cell(bytes(row.queued_bytes).join(" "), "number"), cell(row.pending, "number"),
      h("td", { class: "acts" }, act("Details", row, look))))) : h("p", { class: "quiet" }, "Nothing waits for anybody."));
}

const act = (name, row, then) => h("button", { type: "button", class: "small", "aria-label": `${name} ${row.account ?? row.connection}`, on: { click: () => then(row).catch(report) } }, name);
function report(error) {
  if (error instanceof Refused) refuse(error.message);
  else if (error.name !== "AbortError") $("said").textContent = error.message;
}

// ---- A user

let asked = null;
async function find() {
  asked = [$("by").value, $("whom").value.trim()];
  const [by, whom] = asked;
  const found = await call(`connections?${new URLSearchParams({ [by]: whom, limit: 50, sort: "newest" })}`);
  const rows = found.connections;
  $("said").textContent = rows.length ? `${count(found.matched)} ${found.matched === 1 ? "connection" : "connections"} of ${by} ${whom}${found.matched > rows.length ? `, the newest ${rows.length} of them` : ""}.` : await why_not(by, whom);
  $("found").replaceChildren(...rows.length ? [table("Connections", ["Account", "App", "By", "State", "Age", "Queue", "Pending", "From", "Order"], rows.map(row => h("tr", {},
    cell(row.account ?? "–"), cell(row.app ?? "–"), cell(row.transport), cell(row.state), cell(span(row.age_seconds), "number"), cell(bytes(row.queued_bytes).join(" "), "number"), cell(row.pending, "number"), cell(row.address),
    h("td", { class: "acts" }, act("Details", row, look), row.channel && act("Kick…", row, kick), row.account && act("Ban…", row, ban)))))] : []);
}

async function why_not(by, whom) {
  const { closes } = await call("closes");
  const close = closes.find(close => close[by] === whom);
  return `Nobody is connected with ${by} ${whom}.${close ? ` The last one left ${span(close.ago_seconds)} ago: ${close.reason}, ${close.transport} from ${close.address}.` : ""}`;
}

async function look(row) {
  const view = await call(`connection?${new URLSearchParams({ id: row.channel ?? row.connection })}`);
  const way = view.account ? await call(`explain?${new URLSearchParams({ app: view.app, account: view.account })}`) : null;
  const last_close = view.last_close && `${view.last_close.reason}, ${span(view.last_close.ago_seconds)} ago`;
  const facts = {
    Account: view.account, App: view.app, Channel: view.channel, Connection: view.connection, State: view.state,
    By: `${view.transport} from ${view.address}`, Speaks: view.dialect, Age: span(view.age_seconds),
    "Round trip": view.round_trip_seconds && span(view.round_trip_seconds), "Token ends in": view.expires_in_seconds != null ? span(view.expires_in_seconds) : null,
    Waiting: `${count(view.queued_messages)} messages, ${bytes(view.queued_bytes).join(" ")}`, Unanswered: view.pending, Streams: view.streams,
    Received: view.frames_received != null ? `${count(view.frames_received)} frames, ${bytes(view.bytes_received).join(" ")}` : null,
    Zone: way?.zone, Instances: way?.services.map(of => `${of.service}: ${of.instance ?? "none"}`).join(", "), "Last close": last_close,
  };
  ask({ title: view.account ?? view.connection, body: h("dl", {}, Object.entries(facts).filter(([, fact]) => fact != null && fact !== "").flatMap(([name, fact]) => [h("dt", {}, name), h("dd", {}, fact)])) });
}

const TIMES = [["1h", "1 hour"], ["12h", "12 hours"], ["1d", "1 day"], ["7d", "7 days"], ["30d", "30 days"]];
const times = first => h("select", { name: "time" }, [first, ...TIMES].map(([value, name]) => h("option", { value }, name)));
const reason = () => h("label", {}, "Reason, for the log", h("input", { name: "reason", maxlength: 200, autocomplete: "off" }));
const given = text => text || undefined;

async function kick(row) {
  ask({
    title: `Kick ${row.account}?`, text: `This ends channel ${row.channel} with code 3501; the client does not come back by itself.`,
    body: [reason(), h("label", {}, "Ban the account as well", times(["", "no"]))], order: `Kick ${row.account}`,
    then: async form => {
      const { kicked, banned } = await call("kick", { channel: row.channel, reason: given(form.reason.value), ban: given(form.time.value) });
      await again();
      return `${kicked ? "Kicked" : "Nobody was left to kick:"} ${row.account}${banned ? `, and banned for ${span(banned.left_seconds)}` : ""}.`;
    },
  });
}

async function ban(row) {
  ask({
    title: `Ban ${row.account}?`, text: `Account ${row.account} of app ${row.app} cannot sign in any more. Whoever is connected stays; kick ends them.`,
    body: [h("label", {}, "For", times(["", "good"])), reason()], order: `Ban ${row.account}`,
    then: async form => {
      await call("ban", { whom: { app: row.app, account: row.account }, time: given(form.time.value), reason: given(form.reason.value) });
      await again();
      return `Banned ${row.account}.`;
    },
  });
}

async function show_bans() {
  if (!$("bans").open) return;
  const { bans, all } = await call("bans?limit=200");
  const place = $("bans").lastElementChild;
  place.replaceChildren(bans.length ? table(`${all} bans`, ["Whom", "Ends in", "Reason", "Order"], bans.map(row => {
    const whom = row.address ?? [row.app, row.account].filter(Boolean).join(" / ");
    return h("tr", {}, cell(whom), cell(row.left_seconds == null ? "never" : span(row.left_seconds)), cell(row.reason), h("td", { class: "acts" },
      h("button", { type: "button", class: "small", "aria-label": `Unban ${whom}`, on: { click: () => ask({
        title: `Unban ${whom}?`, order: "Unban", then: async () => {
          await call("unban", { app: row.app, account: row.account, address: row.address });
          await show_bans();
          return `Unbanned ${whom}.`;
        } }) } }, "Unban…")));
  })) : h("p", { class: "quiet" }, "Nobody is banned."), bans.length >= all ? "" : h("p", { class: "quiet" }, `The first ${bans.length} of ${count(all)}; gateway ctl bans shows all.`));
}

async function again() {
  await Promise.all([asked ? find() : null, show_bans()]);
}

// ---- The gateway

const drain = () => ask({
  title: `Drain ${last.gateway}?`, text: `Its ${count(last.connections)} clients are told to go elsewhere and closed one after the other; nobody new is let in until it is undrained.`,
  body: [h("label", {}, "Over this time", h("input", { name: "window", placeholder: "as configured, or 60s" })), h("label", {}, "To this gateway", h("input", { name: "to", placeholder: "host:port, or none" }))],
  order: "Drain", then: async form => {
    const { connections, window_seconds } = await call("drain", { window: given(form.window.value), to: given(form.to.value) });
    return `${count(connections)} clients go within ${span(window_seconds)}.`;
  },
});
const undrain = () => ask({
  title: `Undrain ${last.gateway}?`, text: "Who is still connected stays, and clients are let in again.", order: "Undrain",
  then: async () => `${count((await call("undrain", {})).connections)} clients stay.`,
});
const eject = row => ask({
  title: `Eject ${row.instance}?`, text: `${row.instance} of ${row.service} gets no new requests until it is returned.`, order: "Eject",
  body: [h("label", {}, "Also if no other one serves", h("select", { name: "force" }, h("option", { value: "" }, "no"), h("option", { value: "yes" }, "yes, its requests are refused then")))],
  then: async form => {
    const { requests_moved, warnings } = await call("eject", { instance: row.instance, service: row.service, force: !!form.force.value });
    return [`Ejected ${row.instance}; ${requests_moved} requests moved.`, ...warnings].join(" ");
  },
});
const give_back = row => ask({
  title: `Return ${row.instance}?`, text: `${row.instance} of ${row.service} gets requests again.`, order: "Return",
  then: async () => (await call("return", { instance: row.instance, service: row.service }), `Returned ${row.instance}.`),
});

/** A dialog: with an order it is carried out, and told, only if it is confirmed. */
function ask({ title, text, body, order, then }) {
  const dialog = $("dialog"), problem = h("p", { class: "problem", role: "alert" });
  const close = h("button", { type: "button", on: { click: () => dialog.close() } }, order ? "Cancel" : "Close");
  const confirm = order && h("button", { class: "harm" }, order);
  const form = h("form", { on: { submit: async event => {
    event.preventDefault();
    confirm.disabled = true;
    try {
      $("said").textContent = await then(form.elements);
      dialog.close();
    } catch (error) {
      if (error instanceof Refused) return refuse(error.message);
      problem.textContent = error.message;
      confirm.disabled = false;
    }
  } } }, h("h2", { id: "dialog-head" }, title), text && h("p", {}, text), body ?? [], order && problem, h("div", { class: "row" }, close, confirm));
  dialog.replaceChildren(form);
  dialog.showModal();
  close.focus();
}

// ---- Beginning

if (ADMIN) {
  $("signin").addEventListener("submit", event => {
    event.preventDefault();
    sessionStorage.setItem("token", $("token").value.trim());
    $("refused").textContent = "";
    follow();
  });
  $("leave").addEventListener("click", () => refuse("Signed out."));
  $("find").addEventListener("submit", event => {
    event.preventDefault();
    find().catch(report);
  });
  $("bans").addEventListener("toggle", () => show_bans().catch(report));
  $("drain").addEventListener("click", drain);
  $("undrain").addEventListener("click", undrain);
  if (token()) follow();
  else $("signin").hidden = false;
} else {
  $("mode").hidden = false;
  for (;;) {
    try {
      take(await (await fetch("snapshot", { cache: "no-store" })).json());
    } catch { /* It is shown that there is no news. */ }
    await pause(document.hidden ? 5000 : 1000);
  }
}
