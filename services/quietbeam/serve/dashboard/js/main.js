// The page: events say that something changed, the loader fetches it, the cards draw it in the next animation frame.

import { Events } from "./api.js";
import { LineCard } from "./card.js";
import { Colours } from "./colour.js";
import { Header } from "./header.js";
import { fit } from "./layout.js";
import { Loader } from "./loader.js";
import { KINDS, Options } from "./options.js";
import { RunList } from "./runs.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);
const page = new URLSearchParams(location.search);
document.body.classList.toggle("wall", page.get("wall") === "1");

const colours = await Colours.load();
const header = new Header();
let cards = [];
let frame = { run: null, stacks: null };
let wanted = page.get("run") ?? "latest";
let shape = "";
let mapWidth = 100;
const todo = new Set();

/** For tests and for the curious. */
window.quietbeam = { updates: 0, drawn: 0, connection: "connecting", get run() { return frame.run; }, get view() { return view; } };

function schedule(what) {
  if (!todo.size) requestAnimationFrame(render);
  todo.add(what);
}

const view = new View(() => schedule("draw"));
const options = new Options(colours.names, () => {
  ["cards", "colour", "layout", "draw"].forEach(schedule);
  if (frame.run?.advice && frame.run.advice.snr !== options.snr) loader.request(wanted);
});
const loader = new Loader(() => options.snr, takeFrame, (error) => empty("The server does not answer as it should", error.message));
const list = new RunList((uid) => choose(uid, false));

function choose(uid, follow) {
  wanted = uid;
  byId("follow").checked = follow;
  loader.request(uid, { force: true });
}

function takeFrame({ run, stacks, missing }) {
  if (!run) {
    empty("No run yet: start a scan", "The maps appear here with the first measured row.");
    return;
  }
  header.update(run);
  list.current = run.uid;
  const changed = `${run.uid} ${run.lines} ${run.shape}`;
  frame = { run, stacks: stacks ?? (changed === shape ? frame.stacks : null) };
  window.quietbeam.updates += 1;
  if (!frame.stacks) {
    cards = [];
    shape = "";
    const text = run.ended ? "" : "The maps appear here with the first measured row.";
    empty(missing || run.reason || (run.ended ? "This run has no measured row" : "Waiting for the first row"), text);
    return;
  }
  if (changed !== shape) {
    shape = changed;
    view.setShape(...run.shape);
    ["cards", "layout"].forEach(schedule);
  }
  ["colour", "draw"].forEach(schedule);
}

function empty(title, text) {
  if (cards.length) return; // the last good maps stay; header and connection tell what is wrong
  const box = Object.assign(document.createElement("div"), { className: "empty" });
  box.append(Object.assign(document.createElement("strong"), { textContent: title }), text);
  byId("grid").replaceChildren(box);
}

function render() {
  const work = new Set(todo);
  todo.clear();
  const { run, stacks } = frame;
  if (!run || !stacks) return;
  if (work.has("cards")) {
    cards = run.lines.map((line, index) => new LineCard(line, index, view));
    for (const card of cards) card.setKinds(options.kinds);
    byId("grid").replaceChildren(...cards.map((card) => card.element));
  }
  if (work.has("layout") || work.has("cards")) layout();
  if (work.has("colour") || work.has("cards")) for (const card of cards) card.update(run, stacks, options, colours);
  const bar = scaleBar(run);
  for (const card of cards) card.draw(bar);
  byId("reset-view").disabled = view.whole;
  readout(run);
  window.quietbeam.drawn += 1;
}

function layout() {
  const grid = byId("grid");
  const found = fit({ width: grid.clientWidth, height: grid.clientHeight }, cards.length, options.kinds.length, ...frame.run.shape);
  grid.style.gridTemplateColumns = `repeat(${found.columns}, ${found.cardWidth}px)`;
  grid.classList.toggle("roomy", found.roomy);
  mapWidth = found.width;
  for (const card of cards) card.resize(found.width, found.height, found.stacked);
}

/** A round length, at most a third of the shown width and 100 CSS pixels. */
function scaleBar(run) {
  if (!run.step) return null;
  const step = Math.abs(run.step[1]);
  if (!step) return null;
  const about = view.width * step * Math.min(1 / 3, 100 / mapWidth);
  const power = 10 ** Math.floor(Math.log10(about));
  const length = [5, 2, 1].find((n) => n * power <= about) * power;
  const [value, unit] = run.units === "um" && length < 1 ? [length * 1000, "nm"] : [length, run.units === "um" ? "µm" : run.units];
  return { length: length / step, label: `${Number(value.toPrecision(3))} ${unit}` };
}

function readout(run) {
  const { hover } = view;
  if (!hover) {
    byId("readout").textContent = "Point at a map to read values in all of them";
    return;
  }
  let text = `row ${hover.row}, col ${hover.col}`;
  if (run.step && run.origin) {
    const unit = run.units === "um" ? "µm" : run.units;
    const at = (axis, index) => (run.origin[axis] + index * run.step[axis]).toFixed(2);
    text += `   slow ${at(0, hover.row)} ${unit}, fast ${at(1, hover.col)} ${unit}`;
  }
  byId("readout").textContent = text;
}

new Events(
  (type, data) => {
    if (type === "heartbeat") return;
    if (type === "hello" || type === "reset") loader.request(wanted, { force: type === "reset" });
    else if (wanted === "latest" ? type === "run" || data.run === frame.run?.uid || !frame.run : data.run === wanted) loader.request(wanted);
    if (type === "run" && list.dialog.open) list.refresh();
  },
  (state) => {
    window.quietbeam.connection = state;
    header.connection(state);
  },
);
loader.request(wanted);
setInterval(() => frame.run && !frame.run.ended && loader.request(wanted), 5000); // counts, ETA and age, should an event be lost

byId("follow").checked = wanted === "latest";
byId("follow").addEventListener("change", (event) => choose(event.target.checked ? "latest" : frame.run?.uid ?? "latest", event.target.checked));
byId("reset-view").addEventListener("click", () => view.reset());
new ResizeObserver(() => cards.length && ["layout", "draw"].forEach(schedule)).observe(byId("grid"));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || list.dialog.open || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const [dr, dc] = [view.height / 8, view.width / 8];
  const actions = {
    "+": () => view.zoom(1.5),
    "=": () => view.zoom(1.5),
    "-": () => view.zoom(1 / 1.5),
    0: () => view.reset(),
    ArrowUp: () => view.pan(-dr, 0),
    ArrowDown: () => view.pan(dr, 0),
    ArrowLeft: () => view.pan(0, -dc),
    ArrowRight: () => view.pan(0, dc),
    s: () => options.nextScale(),
    f: () => byId("follow").click(),
    r: () => list.open(),
  };
  const action = actions[event.key] ?? (KINDS[event.key - 1] && (() => options.toggle(KINDS[event.key - 1])));
  if (!action) return;
  if (event.key.startsWith("Arrow") && view.whole) return;
  event.preventDefault();
  action();
});
