// The page: events say that something changed, the loader fetches it, the cards draw it in the next animation frame.

import { Events } from "./data/api.js";
import { axesOf } from "./map/axes.js";
import { LineCard } from "./map/card.js";
import { Colours } from "./base/colour.js";
import { CountPanel } from "./panels/count.js";
import { DetectorsPanel } from "./panels/detectors.js";
import { Drawing } from "./map/drawing.js";
import { EvidencePanel } from "./panels/evidence.js";
import { ExportPanel } from "./panels/export.js";
import { Header } from "./page/header.js";
import { HistoryPanel } from "./panels/history.js";
import { hasHoles } from "./base/holes.js";
import { listenToKeys } from "./page/keys.js";
import { fit } from "./base/layout.js";
import { Loader } from "./data/loader.js";
import { ManagePanel } from "./panels/manage.js";
import { Options } from "./base/options.js";
import { ProfilePanel } from "./panels/profile.js";
import { extents, readout, scaleBar, speak } from "./map/reading.js";
import { RegionPanel } from "./panels/region.js";
import { RgbPanel } from "./panels/rgb.js";
import { RunList } from "./page/runs.js";
import { Side } from "./panels/side.js";
import { View } from "./base/view.js";
import { Wall } from "./page/wall.js";

const byId = (id) => document.getElementById(id);
const page = new URLSearchParams(location.search);

const colours = await Colours.load();
const header = new Header();
const wall = new Wall(page, () => ["cards", "layout"].forEach(schedule));
let cards = [];
let frame = { run: null, stacks: null, earlier: null, number: 0 };
let wanted = page.get("run") ?? "latest";
let shape = "";
let placed = { width: 100, columns: 1 };
let alone = null; // the one line that is shown, or null
const todo = new Set();

/** For tests and for the curious. */
window.quietbeam = {
  updates: 0,
  stacks: 0,
  drawn: 0,
  connection: "connecting",
  get run() {
    return frame.run;
  },
  get view() {
    return view;
  },
  get axes() {
    return axesOf(frame.run, view, 5);
  },
};

function schedule(what) {
  if (!todo.size) requestAnimationFrame(render);
  todo.add(what);
}

const redraw = () => schedule("draw");
const view = new View(redraw);
const drawing = new Drawing(redraw);
const options = new Options(colours.names, () => {
  ["cards", "colour", "layout", "draw"].forEach(schedule);
  const more =
    (frame.run?.advice && frame.run.advice.snr !== options.snr) ||
    (frame.stacks && frame.stacks.chi2 === undefined && options.kinds.includes("chi2"));
  if (more) loader.request(wanted);
});
const loader = new Loader(options, takeFrame, (error) =>
  empty("The server does not answer as it should", error.message),
);
const list = new RunList((uid) => choose(uid, false));
const states = new HistoryPanel({
  redraw,
  onChoose: (state) => loader.showState(state, state ? state.uid : wanted),
  onOpen: () => side.open("history"),
});
const shown = () => ({
  run: frame.run,
  cards,
  view,
  options,
  colours,
  columns: placed.columns,
  bar: scaleBar(frame.run, view, placed.width),
});
const panels = {
  profile: new ProfilePanel({ view, drawing, redraw }),
  region: new RegionPanel({ drawing }),
  rgb: new RgbPanel({ view, options, redraw, shown }),
  history: states,
  detectors: new DetectorsPanel({ redraw }),
  evidence: new EvidencePanel({ view }),
  count: new CountPanel(),
  export: new ExportPanel({ shown }),
  manage: new ManagePanel({ onGone: () => choose("latest", true) }),
};
const side = new Side(panels, { drawing, options, onChange: () => ["layout", "draw"].forEach(schedule) });

function choose(uid, follow) {
  wanted = uid;
  byId("follow").checked = follow;
  loader.showState(null, uid);
}

function takeFrame({ run, stacks, missing, earlier = null, newest = run }) {
  if (!run) {
    if (frame.run) location.reload(); // the only run was deleted: begin anew
    empty("No run yet: start a scan", "The maps appear here with the first measured row.");
    return;
  }
  header.update(run, earlier);
  list.current = run.uid;
  const changed = `${run.uid} ${run.lines} ${run.shape} ${run.step}`;
  frame = {
    run,
    earlier,
    newest,
    stacks: stacks ?? (changed === shape ? frame.stacks : null),
    number: frame.number + 1,
  };
  window.quietbeam.updates += 1;
  if (stacks) {
    window.quietbeam.stacks += 1;
    const { data, rows, cols } = stacks.raw;
    stacks.holes = hasHoles(data.subarray(0, rows * cols), rows, cols);
    byId("fill-holes-label").hidden = !stacks.holes;
  }
  if (!frame.stacks) {
    cards = [];
    shape = "";
    const text = run.ended ? "" : "The maps appear here with the first measured row.";
    empty(missing || run.reason || (run.ended ? "This run has no measured row" : "Waiting for the first row"), text);
    return;
  }
  if (changed !== shape) {
    shape = changed;
    alone = null;
    drawing.forget();
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
  if (work.has("cards")) makeCards(run);
  if (work.has("layout") || work.has("cards")) layout();
  if (work.has("colour") || work.has("cards")) for (const card of cards) card.update(run, stacks, options, colours);
  const bar = scaleBar(run, view, placed.width, wall.type);
  const axes = { ...axesOf(run, view, 5), type: wall.type };
  for (const card of cards) card.draw(bar, axes);
  side.draw(frame);
  byId("reset-view").disabled = view.whole;
  readout(run, view.hover);
  window.quietbeam.drawn += 1;
}

function makeCards(run) {
  const lines = run.lines.includes(alone) ? [alone] : wall.choose(run.lines);
  const onName = (line) => () => showAlone(alone === line ? null : line);
  const focused = cards.map((card) => card.focused).find(Boolean); // new cards take it over
  cards = lines.map((line) => new LineCard(line, run.lines.indexOf(line), { view, drawing, onName: onName(line) }));
  for (const card of cards) card.setKinds(options.shown);
  byId("grid").replaceChildren(...cards.map((card) => card.element));
  if (focused) cards.find((card) => card.line === focused.line)?.focus(focused.kind);
  byId("wall-lines").textContent = wall.describe(run.lines, lines);
}

function showAlone(line) {
  alone = line;
  ["cards", "layout"].forEach(schedule);
}

function layout() {
  const grid = byId("grid");
  const box = { width: grid.clientWidth, height: grid.clientHeight, type: wall.type };
  placed = fit(box, cards.length, options.shown.length, ...extents(frame.run));
  grid.style.gridTemplateColumns = `repeat(${placed.columns}, ${placed.cardWidth}px)`;
  grid.classList.toggle("roomy", placed.roomy);
  for (const card of cards) card.resize(placed.width, placed.height, placed.stacked);
}

new Events(
  (type, data) => {
    if (type === "heartbeat") return;
    if (type === "action") panels.manage.take(data);
    if (type === "action" && data.action === "delete") loader.doubt();
    if (type === "hello" || type === "reset") loader.request(wanted, { force: type === "reset" });
    else if (wanted === "latest" ? type === "run" || data.run === frame.run?.uid || !frame.run : data.run === wanted)
      loader.request(wanted);
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
byId("follow").addEventListener("change", (event) =>
  choose(event.target.checked ? "latest" : (frame.run?.uid ?? "latest"), event.target.checked),
);
byId("reset-view").addEventListener("click", () => view.reset());
new ResizeObserver(() => cards.length && ["layout", "draw"].forEach(schedule)).observe(byId("grid"));
listenToKeys({
  view,
  options,
  side,
  drawing,
  list,
  states,
  speak: () => speak(frame.run, view.hover, cards),
  escape: () => {
    view.point(null);
    if (alone) showAlone(null);
  },
});
