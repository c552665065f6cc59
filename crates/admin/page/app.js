// @ts-check
/** The page: renders the views of the live stream, and computes no number of its own. */

import { Chart, clock, number } from "./chart.js";

/** No event for this long, and the connection is taken for dead; the server sends one every 2 s at least. */
const SILENT_MILLIS = 5000;
/** No evaluation for this long, and the numbers are old; the controller evaluates every 15 s at least. */
const OLD_SECONDS = 30;
/** Points kept per scaler, as many as the server keeps. */
const MAX_POINTS = 1200;

/** @type {Map<string, any>} Views by scaler. */
const views = new Map();
/** @type {Map<string, import("./chart.js").Point[]>} */
const series = new Map();
/** @type {Record<string, number>} */
let silence = {};
let lastEvent = performance.now();
let selected = decodeURIComponent(location.hash.slice(1));
/** @type {EventSource | null} */
let source = null;

/** @template {HTMLElement} T @param {string} id @returns {T} */
const by = (id) => /** @type {T} */ (document.getElementById(id));

const charts = [
  new Chart(by("chart-requests"), "Requests", "requests", [
    { name: "waiting", field: "queued", style: "c2" },
    { name: "in flight", field: "inFlight", style: "c1" },
    { name: "arrivals", field: "arrivalsPerSecond", style: "c3 dashed", unit: "per second" },
  ]),
  new Chart(by("chart-replicas"), "Replicas", "replicas", [
    { name: "ready", field: "ready", style: "c1", stacked: true, step: true },
    { name: "coming", field: "coming", style: "c2", stacked: true, step: true },
    { name: "draining", field: "draining", style: "c4", stacked: true, step: true },
    { name: "target", field: "target", style: "target", step: true },
  ], true),
  new Chart(by("chart-ttft"), "Time to first token", "seconds", [
    { name: "median", field: "ttftP50Seconds", style: "c1" },
    { name: "p99", field: "ttftP99Seconds", style: "c2" },
  ]),
];

/** @param {string} tag @param {string} [className] @param {...(Node | string)} children */
function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** @param {number | null | undefined} value */
function span(value) {
  if (value === null || value === undefined) return "–";
  if (value < 120) return `${number(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min` + (Math.floor(value % 60) ? ` ${Math.floor(value % 60)} s` : "");
  return `${Math.floor(value / 3600)} h ${Math.floor(value % 3600 / 60)} min`;
}

/** @param {string} name @param {string} value @param {string} unit @param {string} detail @param {boolean} [bad] */
function figure(name, value, unit, detail, bad = false) {
  const big = element("dd", "number", value);
  if (unit && value !== "–") big.append(" ", element("span", "unit", unit));
  return element("div", bad ? "bad" : "", element("dt", "", name), big, element("dd", "detail", detail));
}

/** @param {any} view */
function numbers(view) {
  const count = (/** @type {string[]} */ ...phases) =>
    view.replicas.filter((/** @type {any} */ replica) => phases.includes(replica.phase)).length;
  const ttft = view.latency?.ttft;
  const draining = count("draining") + count("leaving");
  const made = [
    figure("Waiting", number(view.queued), "", view.oldestWaitSeconds ? `oldest ${span(view.oldestWaitSeconds)}` : ""),
    figure("In flight", number(view.inFlight), "", view.arrivalsPerSecond === null ? "" : `${number(view.arrivalsPerSecond)} per second`),
    figure("Ready", String(count("ready")), "", draining ? `${draining} draining` : ""),
    figure("Coming", String(count("requested", "provisioning", "loading")), "", view.coldStart.expectedSeconds === null ? "" : `start: ${span(view.coldStart.expectedSeconds)}`),
    figure("Target", number(view.targetReplicas), "", view.desired === null ? "" : `policy wishes ${view.desired}`),
    figure("TTFT p99", number(ttft?.p99Seconds), "s", ttft ? `median ${number(ttft.p50Seconds)} s` : ""),
    figure("Succeeded", number(view.succeededTotal), "", `${number(view.refusedTotal)} refused, ${number(view.failedTotal)} failed`),
  ];
  if (view.load) made.push(figure("Lost", number(view.load.lost), "", `of ${number(view.load.sent)} sent`, view.load.lost > 0));
  by("numbers").replaceChildren(...made);
}

/** @param {any} view */
function replicas(view) {
  const cold = view.coldStart;
  by("cold-start").textContent = cold.learnedP90Seconds === null
    ? `Cold start: ${cold.samples} seen, too few to learn from${cold.expectedSeconds === null ? "" : `; ${span(cold.expectedSeconds)} is expected`}.`
    : `Cold start: median ${span(cold.learnedP50Seconds)}, p90 ${span(cold.learnedP90Seconds)}, learned from ${cold.samples} starts.`;
  for (const warm of cold.warm) {
    by("cold-start").append(` From ${warm.tier} instances (${warm.standby} stand by): ${span(warm.expectedSeconds)}, ${warm.samples} seen.`);
  }
  const place = by("replicas");
  if (!view.replicas.length) {
    place.replaceChildren(element("p", "empty", "No replicas: the target is idle."));
    return;
  }
  const head = element("tr", "");
  for (const [name, className] of [["Replica", ""], ["Phase", ""], ["Ready", ""], ["In flight", "num"], ["Age", "num"]]) {
    const cell = element("th", className, name);
    cell.setAttribute("scope", "col");
    head.append(cell);
  }
  const order = ["loading", "provisioning", "requested", "leaving", "draining", "ready"];
  const sorted = [...view.replicas].sort((a, b) => order.indexOf(a.phase) - order.indexOf(b.phase));
  const rows = sorted.map((replica) => {
    const start = element("td", "");
    if (replica.expectedReadyInSeconds !== null) {
      const bar = /** @type {HTMLProgressElement} */ (element("progress"));
      bar.max = replica.ageSeconds + replica.expectedReadyInSeconds || 1;
      bar.value = replica.ageSeconds;
      const words = replica.expectedReadyInSeconds > 0 ? `in ${span(replica.expectedReadyInSeconds)}` : "overdue";
      bar.setAttribute("aria-label", `start of ${replica.id}`);
      start.append(bar, words);
    }
    const name = element("td", "", replica.id);
    name.title = [replica.id, replica.address].filter(Boolean).join(" at ");
    return element("tr", "", name, element("td", "", element("span", `phase ${replica.phase}`, replica.phase)), start,
      element("td", "num", number(replica.inFlight)), element("td", "num", span(Math.round(replica.ageSeconds))));
  });
  const scrolled = place.firstElementChild?.scrollTop ?? 0;
  const scroll = element("div", "scroll", element("table", "", element("thead", "", head), element("tbody", "", ...rows)));
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-labelledby", "replicas-title");
  place.replaceChildren(scroll);
  scroll.scrollTop = scrolled;
}

let shownDecisions = "";

/** @param {any} view */
function decisions(view) {
  const key = JSON.stringify([view.scaler, view.lastDecisions]);
  if (key === shownDecisions) return;
  shownDecisions = key;
  const place = by("decisions");
  const open = new Map([...place.querySelectorAll("details")].map((one) => [one.dataset.key, one.open]));
  const focused = document.activeElement?.parentElement?.dataset.key;
  const items = view.lastDecisions.map((/** @type {any} */ decision, /** @type {number} */ index) => {
    const direction = decision.to > decision.from ? "up" : decision.to < decision.from ? "down" : "";
    const arrow = { up: "↑", down: "↓", "": "=" }[direction];
    const time = element("time", "", clock(decision.atMillis));
    const change = element("span", `change ${direction}`, arrow);
    change.setAttribute("aria-hidden", "true");
    const details = /** @type {HTMLDetailsElement} */ (element("details", "", element("summary", "", time, change, element("span", "", decision.summary))));
    details.dataset.key = `${view.scaler} ${decision.atMillis}`;
    details.open = open.get(details.dataset.key) ?? index === 0;
    const steps = decision.reasons.map((/** @type {any} */ reason) => {
      const after = element("output", "", String(reason.replicas));
      after.setAttribute("aria-label", `replicas after this step: ${reason.replicas}`);
      return element("li", "step", element("span", "stage", reason.stage), element("span", "", reason.text), after);
    });
    details.append(element("ol", "steps", ...steps));
    return element("li", "", details);
  });
  place.replaceChildren(...(items.length ? items : [element("li", "empty", "No decision has changed anything yet.")]));
  for (const one of place.querySelectorAll("details")) {
    if (focused && one.dataset.key === focused) one.querySelector("summary")?.focus();
  }
}

/** @param {string} id @param {string} text @param {string} [kind] */
function badge(id, text, kind = "") {
  const place = by(id);
  if (place.textContent !== text) place.textContent = text;
  place.className = `badge ${kind}`;
  place.hidden = !text;
}

function selector() {
  const select = /** @type {HTMLSelectElement} */ (by("scaler"));
  const names = [...views.keys()].sort();
  if (names.join("\n") !== [...select.options].map((option) => option.value).join("\n")) {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.disabled = !names.length;
  }
  if (names.length && !views.has(selected)) selected = names[0];
  select.value = selected;
}

function render() {
  selector();
  const view = views.get(selected);
  document.title = view ? `${view.scaler} · forewarm` : "forewarm";
  const points = series.get(selected) ?? [];
  for (const chart of charts) chart.show(points);
  if (!view) return;
  badge("mode", view.mode === "Shadow" ? "shadow: decides, does not act" : view.paused
    ? `held at ${view.paused.replicas} until ${clock(view.paused.untilMillis)}` : "acting", view.mode === "Shadow" || view.paused ? "warn" : "good");
  badge("speed", view.speed === 1 ? "" : `${number(view.speed)} × real time`);
  by("time").textContent = new Date(view.atMillis).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
  const notices = by("notices");
  notices.replaceChildren(...view.notices.map((/** @type {string} */ text) => element("li", "", text)));
  notices.hidden = !view.notices.length;
  numbers(view);
  replicas(view);
  decisions(view);
}

let pending = false;
function schedule() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; render(); });
}

/** Says whether what is shown is true now. */
function freshness() {
  const silent = performance.now() - lastEvent;
  const old = silence[selected] ?? 0;
  let text = "";
  if (silent > SILENT_MILLIS) text = `No data for ${Math.round(silent / 1000)} s; reconnecting. What is shown is old.`;
  else if (old > OLD_SECONDS) text = `The controller has not evaluated this scaler for ${Math.round(old)} s. What is shown is old.`;
  else if (!views.size && source?.readyState === EventSource.OPEN) text = "Connected; waiting for the first evaluation.";
  const banner = by("banner");
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = !text;
  document.body.classList.toggle("stale", Boolean(text));
  const state = silent > SILENT_MILLIS ? ["disconnected", "bad"] : source?.readyState === EventSource.OPEN ? ["live", "good"] : ["connecting", "warn"];
  badge("connection", state[0], state[1]);
}

/** @param {MessageEvent} event */
function take(event) {
  lastEvent = performance.now();
  const update = JSON.parse(event.data);
  if (event.type === "snapshot") { views.clear(); series.clear(); }
  for (const view of update.scalers) {
    views.set(view.scaler, view);
    silence[view.scaler] = 0;
  }
  for (const [name, fresh] of Object.entries(update.points)) {
    series.set(name, [...(series.get(name) ?? []), ...fresh].slice(-MAX_POINTS));
  }
  schedule();
  freshness();
}

function connect() {
  source?.close();
  source = new EventSource("api/v1/events");
  source.addEventListener("snapshot", take);
  source.addEventListener("update", take);
  source.addEventListener("alive", (event) => {
    lastEvent = performance.now();
    silence = JSON.parse(event.data).silenceSeconds;
    freshness();
  });
}

let lastConnect = performance.now();
setInterval(() => {
  const now = performance.now();
  if (now - lastEvent > SILENT_MILLIS && now - lastConnect > SILENT_MILLIS) {
    lastConnect = now;
    connect();
  }
  freshness();
}, 1000);
by("scaler").addEventListener("change", (event) => {
  selected = /** @type {HTMLSelectElement} */ (event.target).value;
  location.hash = encodeURIComponent(selected);
  schedule();
});
connect();
schedule();
