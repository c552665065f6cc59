"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
document.getElementById("rests-on").textContent = data.rests_on;

// ---- elements ----
const SVG = "http://www.w3.org/2000/svg";
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

// ---- numbers as people write them ----
const percent = (share) => `${(Math.floor(share * 10000) / 100).toFixed(2)} %`;
const span = (s) => (s < 1 ? `${Math.round(s * 1000)} ms` : s < 100 ? `${s.toFixed(1)} s` : `${Math.round(s)} s`);
const whole = (n) => n.toLocaleString("en");
const short = (n) => String(Number(n.toPrecision(4)));
function clock(seconds) {
  const [days, rest] = [Math.floor(seconds / 86400), Math.floor(seconds) % 86400];
  const two = (n) => String(n).padStart(2, "0");
  const time = `${two(Math.floor(rest / 3600))}:${two(Math.floor(rest / 60) % 60)}:${two(rest % 60)}`;
  return days ? `day ${days} ${time}` : time;
}
const plane = (row) => (row.data_plane === "engine" ? " (engines' queues)" : "");

// ---- axes ----
function step(range, most) {
  const rough = range / most, power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
}
function ticks(low, high, most) {
  const by = step(Math.max(high - low, 1e-9), most), list = [];
  for (let at = Math.ceil(low / by) * by; at <= high * 1.0001; at += by) list.push(Number(at.toPrecision(10)));
  return list;
}
function timeTicks(length, most) {
  const [unit, name] = length < 3 * 3600 ? [60, "min"] : length < 4 * 86400 ? [3600, "h"] : [86400, "d"];
  return ticks(0, length / unit, most).map((at) => [at * unit, `${at} ${name}`]);
}

// Draws now, and again whenever the width changes.
function drawn(plot, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(plot.clientWidth);
    if (now && now !== width) { width = now; plot.replaceChildren(...draw(width)); }
  }).observe(plot);
}

// ---- the course of a run ----
const LEFT = 40, RIGHT = 8, HIGH = 150, LOW = 64, GAP = 16, AXIS = 20;
// Steps from span to span, and the band between the smallest and the largest value of each.
function steps(at, end, values, x, y) {
  return values.map((value, i) => `${i ? "L" : "M"}${x(at[i])},${y(value)}H${x(at[i + 1] ?? end)}`).join("");
}
function band(at, end, spans, x, y) {
  return spans.map(([low, , high], i) => (high > low ? `M${x(at[i])},${y(low)}V${y(high)}H${x(at[i + 1] ?? end)}V${y(low)}Z` : "")).join("");
}
function area(at, end, values, x, y) {
  return `M${x(at[0])},${y(0)}${values.map((value, i) => {
    return `L${x(at[i])},${y(value)}L${x(at[i + 1] ?? end)},${y(value)}`;
  }).join("")}L${x(end)},${y(0)}Z`;
}
let clips = 0;
function runChart(run) {
  const { course, row, decisions } = run, at = course.at_seconds, end = row.length_seconds;
  const plot = el("div", { class: "plot" });
  if (!at.length) return plot;
  const need = course.in_system.map((pair) => pair.map((n) => n / data.slots));
  const forecast = course.anticipated.map((pair) => pair.map((n) => n / data.slots));
  const most = (pairs) => pairs.reduce((best, [, , high]) => Math.max(best, high), 0);
  const replicas = Math.max(most(course.with_coming), most(course.target), 1);
  // A long queue would flatten everything else; how long it is, the plot below says.
  const top = Math.ceil(Math.max(replicas * 1.15, Math.min(most(need), replicas * 1.6)));
  const queue = Math.max(most(course.queued), 1);
  drawn(plot, (width) => {
    const clip = `clip-${clips++}`, height = HIGH + GAP + LOW + AXIS + 8;
    const x = (s) => Number((LEFT + (s / row.length_seconds) * (width - LEFT - RIGHT)).toFixed(1));
    const y = (n) => Number((8 + HIGH - (n / top) * HIGH).toFixed(1));
    const base = 8 + HIGH + GAP + LOW, q = (n) => Number((base - (n / queue) * LOW).toFixed(1));
    const marks = decisions.length <= 400 ? decisions : [];
    const cross = svg("line", { class: "cross", y1: 8, y2: base, visibility: "hidden" });
    const tip = el("div", { class: "tip", hidden: "" });
    const image = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `Replicas and waiting requests under ${row.policy}` },
      svg("clipPath", { id: clip }, svg("rect", { x: LEFT, y: 8, width: width - LEFT - RIGHT, height: HIGH })),
      ticks(0, top, 4).filter(Number.isInteger).map((n) => [svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(n), y2: y(n) }),
        svg("text", { x: LEFT - 6, y: y(n) + 4, "text-anchor": "end" }, short(n))]),
      [0, queue].map((n) => [svg("line", { class: n ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: q(n), y2: q(n) }),
        svg("text", { x: LEFT - 6, y: q(n) + 4, "text-anchor": "end" }, n >= 10000 ? `${Math.round(n / 1000)}k` : n)]),
      timeTicks(row.length_seconds, Math.max(3, width / 110)).map(([s, name]) => [svg("line", { class: "grid", x1: x(s), x2: x(s), y1: 8, y2: base }),
        svg("text", { x: x(s), y: base + 15, "text-anchor": !s ? "start" : x(s) > width - 28 ? "end" : "middle" }, name)]),
      svg("path", { d: area(at, end, course.with_coming.map(([, mean]) => mean), x, y), fill: "var(--ready)", opacity: .16 }),
      svg("path", { d: area(at, end, course.ready.map(([, mean]) => mean), x, y), fill: "var(--ready)", opacity: .38 }),
      forecast.length ? svg("path", { "clip-path": `url(#${clip})`, d: forecast.map(([low, high], i) =>
        `M${x(at[i])},${y(low)}V${y(high)}H${x(at[i + 1] ?? end)}V${y(low)}Z`).join(""), fill: "var(--forecast)", opacity: .3 }) : null,
      svg("g", { "clip-path": `url(#${clip})` },
        svg("path", { d: band(at, end, need, x, y), fill: "var(--need)", opacity: .28 }),
        svg("path", { d: steps(at, end, need.map(([, mean]) => mean), x, y), fill: "none", stroke: "var(--need)", "stroke-width": 1.2 })),
      svg("path", { d: band(at, end, course.target, x, y), fill: "var(--ink)", opacity: .13 }),
      svg("path", { d: steps(at, end, course.target.map(([, mean]) => mean), x, y), fill: "none", stroke: "var(--ink)", "stroke-width": 1.3 }),
      svg("path", { d: area(at, end, course.queued.map(([, , high]) => high), x, q), fill: "var(--waiting)", opacity: .8 }),
      marks.map(([s, why]) => svg("line", { x1: x(s), x2: x(s), y1: 8 + HIGH + 3, y2: 8 + HIGH + 9, stroke: "var(--ink)", opacity: .6 },
        svg("title", {}, `${clock(s)}  ${why}`))),
      cross);
    image.addEventListener("pointermove", (event) => {
      const box = image.getBoundingClientRect();
      const s = ((event.clientX - box.left - LEFT) / (width - LEFT - RIGHT)) * row.length_seconds;
      const after = at.findIndex((start) => start > s), i = after < 0 ? at.length - 1 : Math.max(0, after - 1);
      const range = ([low, , high]) => (low === high ? short(low) : `${short(low)} to ${short(high)}`);
      const last = decisions.filter(([when]) => when <= s).pop();
      cross.setAttribute("x1", x(at[i])); cross.setAttribute("x2", x(at[i])); cross.setAttribute("visibility", "visible");
      tip.replaceChildren(el("b", {}, clock(at[i])), el("div", {}, `wanted ${range(course.target[i])}, ready ${range(course.ready[i])}, with those starting ${range(course.with_coming[i])}`),
        el("div", {}, `needed ${range(need[i].map((n) => Math.round(n * 10) / 10))}; ${range(course.queued[i])} wait`),
        forecast.length ? el("div", {}, `anticipated: up to ${short(Math.round(forecast[i][1] * 10) / 10)}, lately ${short(Math.round(forecast[i][0] * 10) / 10)}`) : "",
        last ? el("div", { class: "why" }, `${clock(last[0])}: ${last[1]}`) : "");
      tip.hidden = false;
      tip.style.left = x(at[i]) > width / 2 ? "" : `${x(at[i]) + 12}px`;
      tip.style.right = x(at[i]) > width / 2 ? `${width - x(at[i]) + 12}px` : "";
    });
    image.addEventListener("pointerleave", () => { tip.hidden = true; cross.setAttribute("visibility", "hidden"); });
    return [image, tip];
  });
  return plot;
}
const key = (colour, name, style = "") => el("span", {}, el("i", { style: `background:${colour};${style}` }), name);
function runCard(run) {
  const { row, decisions, course } = run;
  const rest = run.decisions_left_out ? `, the first ${whole(decisions.length)} of them` : "";
  return el("figure", { class: "card", id: run.id },
    el("figcaption", {}, el("h3", {}, row.policy + plane(row)),
      el("span", { class: "sum" }, el("span", { class: row.meets_objective ? "good" : "bad" }, `${percent(row.attained)} attained`),
        ` · ${row.gpu_hours.toFixed(2)} GPU-hours · TTFT p99 ${span(row.ttft_seconds.p99)} · ${whole(row.starts)} starts`),
      el("span", { class: "legend" }, key("var(--ink)", "wanted", "height:2px;vertical-align:3px"), key("var(--ready)", "ready", "opacity:.5"), key("var(--ready)", "starting", "opacity:.2"),
        key("var(--need)", "needed by requests in work and waiting", "height:2px;vertical-align:3px"), course.anticipated.length ? key("var(--forecast)", "from the load of late to what must be expected", "opacity:.4") : "", key("var(--waiting)", "waiting (below)"))),
    runChart(run),
    decisions.length ? el("details", {}, el("summary", {}, `${whole(decisions.length + run.decisions_left_out)} changes and their reasons${rest}`),
      el("div", { class: "decisions" }, el("table", {}, el("tbody", {}, decisions.map(([s, why]) => el("tr", {}, el("td", {}, clock(s)), el("td", {}, why))))))) : null);
}

// ---- cost against share attained ----
// Misses on a logarithmic scale: from 99 % to 99.9 % is as far as from 90 % to 99 %.
function scatter(points, marks, caption) {
  const plot = el("div", { class: "plot" }), height = 330, top = 14, bottom = height - 40, left = 58;
  const costs = [...points.map((p) => p.cost), ...marks.map((m) => m.cost)];
  let [low, high] = [Math.min(...costs), Math.max(...costs)];
  const room = Math.max(high - low, high * .1, 1e-6);
  low = Math.max(0, low - room * .08); high += room * .16;
  const misses = points.map((p) => 1 - p.attained).filter((missed) => missed > 0);
  const least = Math.max(1e-5, Math.min((100 - data.wanted_percent) / 100 || 1e-3, 1e-2, ...misses) / 3);
  const worst = Math.min(1, Math.max(.1, ...misses) * 1.5);
  const level = (missed) => Math.log(Math.min(worst, Math.max(missed, least)) / least) / Math.log(worst / least);
  drawn(plot, (width) => {
    const right = width - 16;
    const x = (cost) => left + ((cost - low) / (high - low)) * (right - left);
    const y = (attained) => top + level(1 - attained) * (bottom - top);
    // The topmost line has a name already.
    const levels = [0, .5, .9, .99, .999, .9999].filter((share) => 1 - share <= worst && 1 - share >= least && y(share) - top > 12);
    const wanted = data.wanted_percent / 100, taken = points.map((p) => ({ from: x(p.cost) - 5, until: x(p.cost) + 5, y: y(p.attained) + 4 }));
    const frontier = [...points].sort((a, b) => a.cost - b.cost || b.attained - a.attained)
      .filter((() => { let best = -1; return (p) => p.attained > best && ((best = p.attained), true); })());
    return [svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": caption },
      levels.map((share) => [svg("line", { class: "grid", x1: left, x2: right, y1: y(share), y2: y(share) }),
        svg("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end" }, `${short(share * 100)} %`)]),
      svg("text", { x: left - 8, y: top + 4, "text-anchor": "end" }, "100 %"), svg("line", { class: "grid", x1: left, x2: right, y1: top, y2: top }),
      ticks(low, high, Math.max(3, width / 120)).map((cost) => [svg("line", { class: "grid", x1: x(cost), x2: x(cost), y1: top, y2: bottom }),
        svg("text", { x: x(cost), y: bottom + 16, "text-anchor": "middle" }, short(cost))]),
      svg("text", { x: right, y: height - 4, "text-anchor": "end" }, "GPU-hours →"),
      svg("line", { class: "wanted", x1: left, x2: right, y1: y(wanted), y2: y(wanted) }),
      svg("text", { x: right, y: y(wanted) - 5, "text-anchor": "end" }, `objective: ${data.wanted_percent} %`),
      marks.map((mark, i) => [svg("line", { class: "known", x1: x(mark.cost), x2: x(mark.cost), y1: top, y2: bottom }),
        svg("text", { x: x(mark.cost) + 4, y: bottom - 6 - 13 * i }, mark.name)]),
      svg("polyline", { points: frontier.map((p) => `${x(p.cost)},${y(p.attained)}`).join(" "), fill: "none", stroke: "var(--ready)", opacity: .5 }),
      points.map((p) => svg("circle", { cx: x(p.cost), cy: y(p.attained), r: p.strong ? 6 : 4, fill: p.attained >= wanted ? "var(--good)" : "var(--bad)", opacity: p.strong || !p.quiet ? 1 : .45 },
        svg("title", {}, p.title))),
      points.filter((p) => p.name).sort((a, b) => y(a.attained) - y(b.attained)).map((p) => {
        // Beside its dot, on the side where there is room, and below whatever is there already.
        const wide = 9 + p.name.length * 6.6, fits = x(p.cost) + wide < right;
        const at = { from: x(p.cost) + (fits ? 8 : -wide), until: x(p.cost) + (fits ? wide : -8), y: y(p.attained) + 4 };
        while (taken.some((other) => other.from < at.until && at.from < other.until && Math.abs(other.y - at.y) < 12)) at.y += 6;
        taken.push(at);
        return svg("text", { class: "name", x: x(p.cost) + (fits ? 9 : -9), y: at.y, "text-anchor": fits ? "start" : "end" }, p.name);
      }))];
  });
  return el("figure", { class: "card" }, el("figcaption", {}, el("h3", {}, caption)), plot);
}

// ---- tables ----
function tableOf(columns, rows, isBest) {
  const shown = columns.filter((column) => rows.some((row) => column.value(row) !== null));
  const kind = (column) => (column.word ? { class: "word" } : {});
  return el("div", { class: "card scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, shown.map((column) => el("th", { ...kind(column), title: column.title ?? "" }, column.name)))),
    el("tbody", {}, rows.map((row) => el("tr", isBest(row) ? { class: "best" } : {}, shown.map((column) => el("td", kind(column), column.value(row) ?? "–")))))));
}
const attained = (row) => el("span", { class: row.meets_objective ? "good" : "bad" }, `${percent(row.attained)} ${row.meets_objective ? "✓" : "✗"}`);

function compared(trace, index) {
  const runs = trace.runs.map((run, i) => ({ ...run, id: `run-${index}-${i}` })), rows = runs.map((run) => run.row);
  // Who knows the requests is out of competition.
  const best = rows.filter((row) => row.meets_objective && row.policy !== "clairvoyant").sort((a, b) => a.gpu_hours - b.gpu_hours)[0];
  const columns = [
    { name: "policy", word: true, value: (row) => el("a", { href: `#${runs[rows.indexOf(row)].id}` }, row.policy) },
    { name: "queues", word: true, value: (row) => (rows.some((other) => other.data_plane === "engine") ? row.data_plane : null) },
    { name: "attained", title: "Share of all requests whose first token came in time", value: attained },
    { name: "worst hour", value: (row) => percent(row.worst_hour) },
    { name: "worst day", value: (row) => (row.length_seconds > 86400 ? percent(row.worst_day) : null) },
    { name: "GPU-hours", title: "From each replica's request until it stopped", value: (row) => row.gpu_hours.toFixed(2) + (row === best ? " ★" : "") },
    { name: "starting", title: "Share of them spent starting", value: (row) => percent(row.starting_gpu_hours / row.gpu_hours) },
    { name: "regret", title: "GPU-hours beside those of a policy that knows the arrivals", value: (row) => row.regret?.toFixed(3) ?? null },
    { name: "dollars", value: (row) => row.dollars?.toFixed(2) ?? null },
    { name: "TTFT p50", value: (row) => span(row.ttft_seconds.p50) },
    { name: "TTFT p99", value: (row) => span(row.ttft_seconds.p99) },
    { name: "end to end p99", value: (row) => span(row.e2e_seconds.p99) },
    { name: "starts", value: (row) => whole(row.starts) },
    { name: "flaps", title: "Changes of direction within 10 minutes", value: (row) => whole(row.flaps) },
    { name: "most", title: "The most replicas at once", value: (row) => whole(row.max_replicas) },
    { name: "lost", value: (row) => whole(row.lost) },
  ];
  const points = rows.map((row) => ({ cost: row.gpu_hours, attained: row.attained, name: row.policy + plane(row), strong: row === best, title: `${row.policy}: ${percent(row.attained)}, ${row.gpu_hours.toFixed(2)} GPU-hours` }));
  const known = rows[0] ?? {};
  const marks = [["clairvoyant", known.clairvoyant_gpu_hours], ["bound", known.bound_gpu_hours]].filter(([, cost]) => cost).map(([name, cost]) => ({ name, cost }));
  main.append(el("h2", {}, trace.name),
    el("p", { class: "about" }, `${whole(trace.requests)} requests in ${trace.hours.toFixed(1)} h, which keep ${trace.mean_load.toFixed(1)} replicas busy on average and ${trace.peak_load.toFixed(1)} in the busiest minute`),
    tableOf(columns, rows, (row) => row === best), scatter(points, marks, "What it costs to attain how much"), ...runs.map(runCard));
}

function tuned(trace) {
  const rows = trace.candidates, tag = { given: "as given", chosen: "chosen" };
  const points = (part) => rows.map((row) => ({ cost: row[part].gpu_hours, attained: row[part].attained, name: tag[row.tag], strong: row.tag === "chosen", quiet: true, title: `${row.settings.map(([name, value]) => `${name} ${value}`).join(", ")}: ${percent(row[part].attained)}, ${row[part].gpu_hours.toFixed(2)} GPU-hours` }));
  const on = (row, part) => attained({ attained: row[part].attained, meets_objective: row[part].meets_objective });
  const columns = [
    { name: "", word: true, value: (row) => tag[row.tag] ?? "" },
    ...(rows[0]?.settings ?? []).map(([name], i) => ({ name, value: (row) => String(row.settings[i][1]) })),
    { name: "attained, tuned on", value: (row) => on(row, "tuned_on") },
    { name: "GPU-hours", value: (row) => row.tuned_on.gpu_hours.toFixed(2) },
    { name: "attained, the rest", value: (row) => on(row, "rest") },
    { name: "GPU-hours", value: (row) => row.rest.gpu_hours.toFixed(2) },
  ];
  main.append(el("h2", {}, `${trace.policy} on ${trace.trace}`), el("p", { class: "about" }, trace.about),
    tableOf(columns, rows.filter((row) => row.frontier || row.tag), (row) => row.tag === "chosen"),
    el("div", { class: "pair" }, scatter(points("tuned_on"), [], "On the part it was tuned on"), scatter(points("rest"), [], "On the rest, which the search has not seen")));
}

main.replaceChildren();
data.traces.forEach(data.kind === "tune" ? tuned : compared);
