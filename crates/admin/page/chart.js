// @ts-check
/**
 * A time series chart in SVG: axes with units, legend, values on hover and by arrow keys.
 * It draws the numbers it is given; a number that is null is a gap.
 */

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string} field  Field of a point.
 * @property {string} style  CSS classes.
 * @property {boolean} [stacked]  Drawn as an area on top of the stacked ones before it.
 * @property {boolean} [step]  Held until the next point.
 * @property {string} [unit]  When it is not the axis's.
 */

/** @typedef {{atMillis: number} & Record<string, number | null>} Point */

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 46, right: 12, top: 20, bottom: 22 };

/** @param {string} tag @param {Record<string, string | number>} attributes @param {string} [text] */
function svg(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

/** A round step that divides `range` into about `count` parts. @param {number} range @param {number} count */
function roundStep(range, count) {
  const raw = range / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10;
  return factor * power;
}

/** @param {number | null | undefined} value */
export function number(value) {
  if (value === null || value === undefined) return "–";
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** @param {number} millis */
export function clock(millis) {
  return new Date(millis).toLocaleTimeString("en-GB");
}

export class Chart {
  /** @param {HTMLElement} figure @param {string} title @param {string} unit @param {Series[]} series @param {boolean} [whole] */
  constructor(figure, title, unit, series, whole = false) {
    this.unit = unit;
    this.series = series;
    this.whole = whole;
    this.title = title;
    /** @type {Point[]} */
    this.points = [];
    /** @type {number | null} Index of the point under the cursor. */
    this.cursor = null;
    const caption = document.createElement("figcaption");
    const heading = document.createElement("h2");
    heading.textContent = title;
    const legend = document.createElement("div");
    legend.className = "legend";
    this.values = series.map((one) => {
      const entry = document.createElement("span");
      const mark = svg("svg", { viewBox: "0 0 18 10", "aria-hidden": "true" });
      mark.append(one.stacked
        ? svg("rect", { x: 2, y: 1, width: 14, height: 8, class: `area ${one.style}` })
        : svg("path", { d: "M1 5H17", class: `line ${one.style}` }));
      const value = document.createElement("b");
      entry.append(mark, one.name + " ", value);
      legend.append(entry);
      return value;
    });
    caption.append(heading, legend);
    this.plot = document.createElement("div");
    this.plot.className = "plot";
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "img");
    this.svg = svg("svg", { "aria-hidden": "true" });
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.setAttribute("aria-live", "polite");
    this.tip.hidden = true;
    this.plot.append(this.svg, this.tip);
    figure.append(caption, this.plot);
    this.plot.addEventListener("pointermove", (event) => this.point(event.clientX));
    this.plot.addEventListener("pointerleave", () => this.move(null));
    this.plot.addEventListener("blur", () => this.move(null));
    this.plot.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
      if (by !== undefined) {
        event.preventDefault();
        this.move((this.cursor ?? this.points.length - 1) + by);
      } else if (event.key === "Escape") this.move(null);
    });
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  /** @param {Point[]} points */
  show(points) {
    this.points = points;
    this.draw();
  }

  /** @param {number | null} index */
  move(index) {
    this.cursor = index === null || !this.points.length ? null : Math.max(0, Math.min(this.points.length - 1, index));
    this.draw();
  }

  /** @param {number} clientX */
  point(clientX) {
    if (!this.points.length || !this.scale) return;
    const at = this.scale.time(clientX - this.plot.getBoundingClientRect().left);
    const after = this.points.findIndex((point) => point.atMillis >= at);
    const index = after < 0 ? this.points.length - 1 : after;
    const before = Math.max(0, index - 1);
    const nearer = at - this.points[before].atMillis < this.points[index].atMillis - at ? before : index;
    this.move(nearer);
  }

  /** The top of each series at `point`; stacked series lie on those before them. @param {Point} point */
  tops(point) {
    let base = 0;
    return this.series.map((one) => {
      const value = point[one.field] ?? null;
      if (!one.stacked || value === null) return { base: 0, top: value };
      const from = base;
      base += value;
      return { base: from, top: base };
    });
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (!width || !height) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    const last = this.points.at(-1);
    this.series.forEach((one, index) => {
      this.values[index].textContent = last ? `${number(last[one.field])}${one.unit ? " " + one.unit : ""}` : "";
    });
    this.plot.setAttribute("aria-label", `${this.title}: ` + (last
      ? this.series.map((one) => `${one.name} ${number(last[one.field])} ${one.unit ?? this.unit}`).join(", ")
      : "no data yet"));
    if (this.points.length < 2 || !last) {
      this.svg.append(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no data yet"));
      this.tip.hidden = true;
      return;
    }
    const tops = this.points.map((point) => this.tops(point));
    const most = Math.max(...tops.flatMap((row) => row.map(({ top }) => top ?? 0)), this.whole ? 1 : 0) || 1;
    const step = Math.max(roundStep(most, 4), this.whole ? 1 : 0);
    const ceiling = Math.ceil(most / step) * step;
    const [start, end] = [this.points[0].atMillis, last.atMillis];
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const x = (/** @type {number} */ at) => MARGIN.left + (at - start) / Math.max(1, end - start) * inner.width;
    const y = (/** @type {number} */ value) => MARGIN.top + (1 - value / ceiling) * inner.height;
    this.scale = { time: (/** @type {number} */ px) => start + (px - MARGIN.left) / inner.width * (end - start) };
    for (let value = 0; value <= ceiling + step / 2; value += step) {
      this.svg.append(svg("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value), class: value ? "grid" : "axis" }));
      this.svg.append(svg("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, number(value)));
    }
    this.svg.append(svg("text", { x: MARGIN.left - 6, y: 9 }, this.unit));
    const parts = Math.max(2, Math.min(6, Math.floor(inner.width / 110)));
    for (let part = 0; part <= parts; part += 1) {
      const anchor = part === 0 ? "start" : part === parts ? "end" : "middle";
      const at = start + (end - start) * part / parts;
      this.svg.append(svg("text", { x: x(at), y: height - 5, "text-anchor": anchor }, clock(at)));
    }
    this.series.forEach((one, index) => {
      /** @type {string[]} */ const up = [];
      let pen = false;
      this.points.forEach((point, at) => {
        const { top } = tops[at][index];
        if (top === null) { pen = false; return; }
        const px = x(point.atMillis).toFixed(1);
        const py = y(top).toFixed(1);
        up.push(pen || (one.stacked && up.length) ? (one.step ? `H${px}V${py}` : `L${px} ${py}`) : `M${px} ${py}`);
        pen = true;
      });
      if (!one.stacked) {
        this.svg.append(svg("path", { d: up.join(""), class: `line ${one.style}` }));
        return;
      }
      /** The lower edge, walked back. @type {string[]} */ const edge = [];
      for (let at = this.points.length - 1; at >= 0; at -= 1) {
        const base = y(tops[at][index].base).toFixed(1);
        const px = x(this.points[at].atMillis).toFixed(1);
        edge.push(one.step && edge.length ? `V${base}H${px}` : `L${px} ${base}`);
      }
      this.svg.append(svg("path", { d: up.join("") + edge.join("") + "Z", class: `area ${one.style}` }));
    });
    this.hover(x, height);
  }

  /** @param {(at: number) => number} x @param {number} height */
  hover(x, height) {
    this.tip.hidden = this.cursor === null;
    if (this.cursor === null) return;
    const point = this.points[Math.min(this.cursor, this.points.length - 1)];
    const px = x(point.atMillis);
    this.svg.append(svg("line", { x1: px, x2: px, y1: MARGIN.top, y2: height - MARGIN.bottom, class: "cross" }));
    const rows = [["", clock(point.atMillis)], ...this.series.map((one) => [one.name, `${number(point[one.field])} ${one.unit ?? this.unit}`])];
    this.tip.replaceChildren(...rows.map(([name, value]) => {
      const row = document.createElement("div");
      const bold = document.createElement("b");
      bold.textContent = value;
      row.append(name, bold);
      return row;
    }));
    const right = px > this.plot.clientWidth / 2;
    this.tip.style.left = right ? "" : `${px + 10}px`;
    this.tip.style.right = right ? `${this.plot.clientWidth - px + 10}px` : "";
  }
}
