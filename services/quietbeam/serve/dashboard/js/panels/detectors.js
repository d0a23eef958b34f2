// The panel "detectors": how well each detector does, drawn where it sits.

import { getDetectors } from "../data/api.js";
import { table } from "../base/dom.js";
import { Fetched } from "../data/fetched.js";
import { lineName, number } from "../base/text.js";

const byId = (id) => document.getElementById(id);
const TEXT = "#d5dde7";
const SOFT = "#8d9aab";

export class DetectorsPanel {
  constructor({ redraw }) {
    this.fetched = new Fetched(getDetectors, redraw);
    this.line = "";
    byId("detectors-line").addEventListener("change", (event) => {
      this.line = event.target.value;
      redraw();
    });
  }

  draw({ run, newest }) {
    this.fetched.want(run.uid, String(newest.maps_version));
    const select = byId("detectors-line");
    if (select.dataset.lines !== run.lines.join()) {
      select.dataset.lines = run.lines.join();
      select.replaceChildren(new Option("all lines", ""), ...run.lines.map((line) => new Option(lineName(line), line)));
      if (!run.lines.includes(this.line)) this.line = "";
    }
    select.value = this.line;
    const { uid, key, value, problem } = this.fetched;
    const drawn = [run.uid, key, this.line, problem].join();
    if (uid !== run.uid || drawn === this.drawn) return;
    this.drawn = drawn;
    const judged = compare(value ?? []).map((one) => judge(one, this.line));
    drawLayout(byId("detectors-map"), judged);
    const left = judged.filter(({ excluded }) => excluded.length);
    const where = this.line ? lineName(this.line) : "every line";
    byId("detectors-facts").textContent =
      problem ||
      (left.length
        ? `▲ ${left.map(({ name }) => name).join(", ")} left out, see below`
        : `all ${judged.length} detectors are used for ${where}`);
    const body = judged.map(({ name, gain, share, drift, excluded }) => [
      { text: name, head: true },
      { text: share === null ? "–" : `${(100 * share).toFixed(1)} %` },
      { text: gain },
      { text: drift === null || drift === undefined ? "–" : `${(100 * drift).toFixed(1)} %` },
      { text: excluded.length ? `▲ ${excluded.join("; ")}` : "used", style: excluded.length ? "warn" : "" },
    ]);
    byId("detectors-table").replaceChildren(table(["Detector", "Counts", "Gain", "Drift", "State"], body, "Detectors"));
  }
}

/** Shares of the counts, and gains relative to the mean of the detectors that a line is summed over. */
function compare(detectors) {
  const total = detectors.reduce((sum, one) => sum + (one.total_counts ?? 0), 0);
  const mean = (line) => {
    const gains = detectors.map(({ lines }) => lines?.[line]?.gain).filter(Number.isFinite);
    return gains.reduce((sum, gain) => sum + gain, 0) / gains.length;
  };
  return detectors.map((one) => ({
    ...one,
    share: total > 0 ? one.total_counts / total : null,
    lines: Object.fromEntries(
      Object.entries(one.lines ?? {}).map(([line, { gain, excluded }]) => [
        line,
        { excluded, gain: Number.isFinite(gain) ? gain / mean(line) : null },
      ]),
    ),
  }));
}

/** What is said of a detector for one line, or for all of them. */
function judge({ name, position, lines, share, drift }, line) {
  const chosen = Object.entries(lines ?? {}).filter(([one]) => !line || one === line);
  const gains = chosen
    .filter(([, { excluded }]) => !excluded)
    .map(([, { gain }]) => gain)
    .filter(Number.isFinite);
  const [low, high] = [Math.min(...gains), Math.max(...gains)];
  const reasons = chosen
    .filter(([, { excluded }]) => excluded)
    .map(([one, { excluded }]) => (line ? excluded : `${lineName(one)}: ${excluded}`));
  const mean = gains.reduce((sum, gain) => sum + gain, 0) / gains.length;
  return {
    name,
    position,
    share,
    drift,
    mean: gains.length ? mean : null,
    gain: !gains.length ? "–" : high - low < 0.005 ? low.toFixed(2) : `${low.toFixed(2)}–${high.toFixed(2)}`,
    excluded:
      reasons.length > 1 &&
      reasons.length === chosen.length &&
      new Set(chosen.map(([, { excluded }]) => excluded)).size === 1
        ? [`all lines: ${chosen[0][1].excluded}`]
        : reasons,
    whole: reasons.length === chosen.length && chosen.length > 0,
  };
}

/** Circles in the detector's layout, or in a ring where it is not known; brightness is the gain, a cross means left out. */
function drawLayout(canvas, detectors) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.parentElement.clientWidth - 24, 210];
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const c = canvas.getContext("2d");
  c.scale(ratio, ratio);
  const { points, radius } = arrange(detectors, width, height);
  c.textAlign = "center";
  detectors.forEach(({ name, mean, gain, excluded, whole }, i) => {
    const [x, y] = points[i];
    const strength = mean === null ? 0 : Math.max(0, Math.min(1, mean / 2)); // gain 1 is the middle
    c.beginPath();
    c.arc(x, y, radius, 0, 2 * Math.PI);
    c.fillStyle = whole ? "#1b222c" : `hsl(174 40% ${Math.round(14 + 26 * strength)}%)`;
    c.strokeStyle = excluded.length ? "#e6b34d" : "#3d6a6c";
    c.lineWidth = excluded.length ? 2 : 1.2;
    c.setLineDash(excluded.length && !whole ? [4, 3] : []);
    c.fill();
    c.stroke();
    c.setLineDash([]);
    if (whole) {
      c.beginPath();
      for (const [from, to] of [
        [-1, 1],
        [1, -1],
      ]) {
        c.moveTo(x - 0.7 * radius, y + 0.7 * radius * from);
        c.lineTo(x + 0.7 * radius, y + 0.7 * radius * to);
      }
      c.stroke();
    }
    if (radius < 12) return;
    c.fillStyle = TEXT;
    c.font = `600 ${Math.min(13, radius / 2.2)}px system-ui, "DejaVu Sans", sans-serif`;
    c.fillText(name, x, y, 1.8 * radius);
    c.fillStyle = SOFT;
    c.font = `${Math.min(11, radius / 2.6)}px system-ui, "DejaVu Sans", sans-serif`;
    c.fillText(gain === "–" ? "" : `× ${gain}`, x, y + Math.min(14, radius / 2), 1.8 * radius);
    if (excluded.length) c.fillText("▲", x, y - radius / 2.2);
  });
  const told = detectors.map(
    ({ name, excluded, gain }) =>
      `${name} ${excluded.length ? `left out: ${excluded.join("; ")}` : `used, gain ${gain}`}`,
  );
  canvas.setAttribute("aria-label", `Layout of ${number(detectors.length)} detectors. ${told.join(". ")}`);
}

function arrange(detectors, width, height) {
  const placed = detectors.length > 0 && detectors.every(({ position }) => Array.isArray(position));
  const n = detectors.length;
  const ring =
    n < 3
      ? detectors.map((_, i) => [i, 0])
      : detectors.map((_, i) => [
          Math.cos((2 * Math.PI * i) / n - Math.PI / 2),
          Math.sin((2 * Math.PI * i) / n - Math.PI / 2),
        ]);
  const at = placed ? detectors.map(({ position: [x, y] }) => [x, -y]) : ring;
  const nearest = Math.min(
    ...at.flatMap(([x, y], i) => at.slice(i + 1).map(([u, v]) => Math.hypot(x - u, y - v))),
    Infinity,
  );
  const step = Number.isFinite(nearest) && nearest > 0 ? nearest : 1;
  const span = (k) => Math.max(...at.map((point) => point[k])) - Math.min(...at.map((point) => point[k]));
  const middle = (k) => (Math.max(...at.map((point) => point[k])) + Math.min(...at.map((point) => point[k]))) / 2;
  const scale = Math.min((width - 8) / (span(0) + step), (height - 8) / (span(1) + step), 96 / step);
  return {
    points: at.map(([x, y]) => [width / 2 + (x - middle(0)) * scale, height / 2 + (y - middle(1)) * scale]),
    radius: 0.44 * step * scale,
  };
}
