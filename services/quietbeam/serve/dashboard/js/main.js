// The page: events say that something changed, the loader fetches it, the cards draw it in the next animation frame.

import { Colours } from "./base/colour.js";
import { buttonById, byId, inputById } from "./base/dom.js";
import { hasHoles } from "./base/holes.js";
import { Options } from "./base/options.js";
import { oncePerFrame } from "./base/schedule.js";
import { View } from "./base/view.js";
import { messageOf } from "./data/api.js";
import { Loader } from "./data/loader.js";
import { concerns, frameOf, nextState, NOTHING, whyNoMap } from "./data/page_state.js";
import { followEvents } from "./data/shared_events.js";
import { unitNotes } from "./data/units.js";
import { axesOf } from "./map/axes.js";
import { Drawing } from "./map/drawing.js";
import { showPosition, speak } from "./map/reading.js";
import { connectControls } from "./page/controls.js";
import { MapGrid } from "./page/grid.js";
import { Header } from "./page/header.js";
import { listenToKeys } from "./page/keys.js";
import { RunList } from "./page/runs.js";
import { Wall } from "./page/wall.js";
import { CountPanel } from "./panels/count.js";
import { DetectorsPanel } from "./panels/detectors.js";
import { EvidencePanel } from "./panels/evidence.js";
import { ExportPanel } from "./panels/export.js";
import { HistoryPanel } from "./panels/history.js";
import { ManagePanel } from "./panels/manage.js";
import { ProfilePanel } from "./panels/profile.js";
import { RegionPanel } from "./panels/region.js";
import { RgbPanel } from "./panels/rgb.js";
import { Side } from "./panels/side.js";

/** @import { Work } from "./page/grid.js" */

const REFRESH_MS = 5000; // counts, remaining time and age of a run in progress, should an event be lost

const query = new URLSearchParams(location.search);
const follow = inputById("follow");
let wanted = query.get("run") ?? "latest";
let state = NOTHING;

const schedule = /** @type {(...work: Work[]) => void} */ (oncePerFrame(render));
const redraw = () => schedule("draw");

const colours = await Colours.load();
const options = new Options(colours.names, () => localStorage);
const view = new View(redraw);
const drawing = new Drawing(redraw);
const header = new Header();
const wall = new Wall(query, () => schedule("cards", "layout"));
const grid = new MapGrid({ view, drawing, options, colours, wall, schedule });
const loader = new Loader(options, showLoaded, (error) =>
  grid.showMessage("The server does not answer as it should", messageOf(error)),
);
const list = new RunList((uid) => choose(uid, false));

const content = () => {
  const frame = frameOf(state);
  return frame && grid.forFigure(frame.run);
};
const states = new HistoryPanel({
  redraw,
  onChoose: (earlier) => loader.showState(earlier, earlier ? earlier.uid : wanted),
  onOpen: () => side.open("history"),
});
const manage = new ManagePanel({ onDeleted: () => choose("latest", true) });
const panels = {
  profile: new ProfilePanel({ view, drawing, redraw }),
  region: new RegionPanel({ drawing }),
  rgb: new RgbPanel({ view, options, redraw, content }),
  history: states,
  detectors: new DetectorsPanel({ redraw }),
  evidence: new EvidencePanel({ view }),
  count: new CountPanel(),
  export: new ExportPanel({ content, shownKinds: () => options.shown }),
  manage,
};
const side = new Side(panels, { drawing, options, onChange: () => schedule("layout", "draw") });

/** Debug hooks used by browser tests. */
const hooks = {
  updates: 0,
  stacks: 0,
  drawn: 0,
  connection: "connecting",
  get run() {
    return state.run;
  },
  get view() {
    return view;
  },
  get axes() {
    return state.run && axesOf(state.run, view, 5);
  },
};
Object.assign(window, { quietbeam: hooks });

/**
 * Show a run; with `follow`, always the latest.
 * @param {string} uid or "latest"
 * @param {boolean} following
 */
function choose(uid, following) {
  wanted = uid;
  follow.checked = following;
  loader.showState(null, uid);
}

/** @param {LoadedFrame} loaded */
function showLoaded({ run, stacks, earlier, newest, missing }) {
  if (!run) {
    if (state.run) location.reload(); // the only run was deleted: begin anew
    grid.showMessage("No run yet: start a scan", "The maps appear here with the first measured row.");
    return;
  }
  const before = state;
  state = nextState(before, { run, stacks, earlier, newest });
  header.update(run, state.earlier);
  showUnitNote(run);
  list.current = run.uid;
  hooks.updates += 1;
  if (stacks) {
    hooks.stacks += 1;
    const { data, rows, cols } = stacks.raw;
    stacks.holes = hasHoles(data.subarray(0, rows * cols), rows, cols);
    byId("fill-holes-label").hidden = !stacks.holes;
  }
  const frame = frameOf(state);
  if (!frame) {
    grid.clear();
    grid.showMessage(...whyNoMap(run, missing));
    return;
  }
  if (!before.stacks || before.key !== state.key) {
    drawing.reset();
    view.setShape(...frame.run.shape);
    grid.reset();
  }
  schedule("colour", "draw");
}

/**
 * Show what must be known of the unit, or why there is none.
 * @param {Run} run
 */
function showUnitNote(run) {
  const { text, title } = unitNotes(run.unit);
  const note = byId("unit-note");
  note.hidden = !text;
  note.textContent = text;
  note.title = title;
}

/** @param {Set<Work>} work */
function render(work) {
  const frame = frameOf(state);
  if (!frame) return;
  grid.render(frame, work);
  side.draw(frame);
  buttonById("reset-view").disabled = view.whole;
  showPosition(frame.run, view.hover);
  hooks.drawn += 1;
}

/** Draw everything anew after a change of the options, and fetch what the shown maps lack. */
function applyOptions() {
  schedule("cards", "colour", "layout", "draw");
  const otherUnit = (state.run?.unit?.units ?? "counts") !== options.unit && !state.earlier;
  const otherSnr = state.run?.advice && state.run.advice.snr !== options.snr;
  const noChi2 = state.stacks && state.stacks.chi2 === undefined && options.kinds.includes("chi2");
  if (otherSnr || noChi2 || otherUnit) loader.request(wanted);
}

/**
 * @param {string} type
 * @param {Record<string, any>} data
 */
function handleEvent(type, data) {
  if (type === "heartbeat") return;
  if (type === "action") {
    manage.handleAction(data);
    if (data.action === "delete") loader.expectDeletion();
  }
  if (type === "hello" || type === "reset") loader.request(wanted, { force: type === "reset" });
  else if (concerns(type, data, wanted, state.run?.uid)) loader.request(wanted);
  if (type === "run" && list.dialog.open) list.refresh();
}

options.subscribe(applyOptions);
connectControls(options, colours.names);
followEvents(handleEvent, (connection) => {
  hooks.connection = connection;
  header.showConnection(connection);
});
loader.request(wanted);
setInterval(() => state.run && !state.run.ended && loader.request(wanted), REFRESH_MS);

follow.checked = wanted === "latest";
follow.addEventListener("change", () =>
  choose(follow.checked ? "latest" : (state.run?.uid ?? "latest"), follow.checked),
);
byId("reset-view").addEventListener("click", () => view.reset());
listenToKeys({
  ...{ view, options, side, drawing, list, states },
  speak: () => state.run && speak(state.run, view.hover, grid.cards),
  escape: () => {
    view.point(null);
    if (grid.single) grid.showSingle(null);
  },
});
