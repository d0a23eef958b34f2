// Types of the REST answers and of what the dashboard's modules share. Read by tsc and by editors; not shipped.

// -- what the server sends (docs/reference/rest.md) --------------------------------------------------------------------

type MapKind = "raw" | "denoised" | "uncertainty" | "residual" | "chi2";

interface Progress {
  rows_measured: number;
  pixels_measured: number;
  /** Absent until the start document told the shape of the map. */
  rows?: number;
  pixels?: number;
  fraction?: number;
  eta_s?: number | null;
}

interface Denoise {
  state: string;
  reason: string;
  rows: number;
  lag_s: number | null;
  model: string | null;
}

interface Publish {
  state: string;
  reason: string;
  tiled_path: string | null;
}

type Verdict = "improved" | "kept_raw" | "not_tested";

interface LineEvidence {
  line: string;
  estimator: string;
  verdict: Verdict;
  /** Why this verdict, in a sentence; absent in earlier states. */
  verdict_reason?: string;
  dwell_gain: number | null;
  dwell_gain_low: number | null;
  dwell_gain_high: number | null;
  weights?: Record<string, number>;
  total_ratio?: number | null;
  slope?: number | null;
  mean_counts?: number;
  residual_chi2?: number | null;
  residual_flag?: boolean;
  residual_worst_row?: number | null;
  residual_worst_col?: number | null;
  frc_pixels?: number | null;
  frc_raw_pixels?: number | null;
  coverage_68?: number | null;
  excluded_detectors?: Record<string, string>;
}

interface RunEvidence {
  rows: number;
  lines: LineEvidence[];
  model?: string;
  fine_tune_steps?: number;
  loss?: number | null;
  final: boolean;
  refined?: boolean;
  notes?: string[];
}

interface LineAdvice {
  line: string;
  snr_raw: number | null;
  snr_denoised: number | null;
  factor_raw: number | null;
  factor_denoised: number | null;
  factor_denoised_likely?: number | null;
  dwell_raw_s: number | null;
  dwell_denoised_s: number | null;
  reason: string;
}

interface RunAdvice {
  snr: number;
  lines: LineAdvice[];
}

/** A run as the list of runs has it. */
interface RunSummary {
  uid: string;
  state: string;
  reason: string;
  ended: boolean;
  scan_id: number | string | null;
  plan: string;
  sample: string;
  /** Rows and columns. */
  shape: [number, number] | null;
  lines: string[];
  detectors: string[];
  kind: "counts" | "areas" | null;
  time_start: number | null;
  time_stop: number | null;
  data_age_s: number | null;
  progress: Progress;
  denoise: Denoise;
  maps_version: number;
  warnings?: string[];
  pinned: boolean;
  /** What of its files cannot be read; empty for a sound run. */
  damage?: string;
}

/** What turns a map (row, col) into the picture: first the flips, then the transposition. */
interface Display {
  transpose: boolean;
  flip_rows: boolean;
  flip_cols: boolean;
}

/** A run with everything that the page shows of it; from the loader on, shape, step and origin are those of the picture. */
interface Run extends RunSummary {
  /** Length of a step along rows and columns, in `units`. */
  step: [number, number] | null;
  origin: [number, number] | null;
  units: string | null;
  /** How the order of the pixels is known; null before the start document. */
  order: "assumed" | "verified" | "from_positions" | null;
  /** Names of the (row, col) motors, in the order of the scan; empty where they are not known. */
  axes: string[];
  /** Positions of uneven axes, in the order of the scan. */
  row_positions: number[] | null;
  col_positions: number[] | null;
  display: Display | null;
  dwell_s: number | null;
  publish?: Publish;
  evidence: RunEvidence | null;
  links: Record<string, string | null>;
  /** Actions that are not finished. */
  actions: Action[];
  /** Added by the loader; null while there is none. */
  advice?: RunAdvice | null;
  /** Added by the loader: the unit of the maps; null for counts. */
  unit?: UnitInfo | null;
}

/** A run whose shape is known, so that it has maps. */
type MappedRun = Run & { shape: [number, number] };

interface Action {
  action: string;
  run: string | null;
  state: string;
  reason: string;
  by: string;
}

interface Principal {
  name: string;
  scopes: string[];
  csrf: string | null;
}

interface LineState {
  estimator: string;
  verdict: Verdict;
  dwell_gain: number | null;
  low: number | null;
  high: number | null;
}

/** A state of a run's maps: what was known when `rows` rows had been denoised. */
interface MapState {
  uid: string;
  version: number;
  rows: number;
  time?: number;
  state?: string;
  fine_tune_steps?: number;
  loss?: number | null;
  lines?: Record<string, LineState>;
  /** Whether the maps of this state can be shown. */
  maps?: boolean;
}

interface Detector {
  name: string;
  total_counts: number | null;
  drift: number | null;
  position: [number, number] | null;
  /** Gain and why the detector is left out (null: it is used), by line. */
  lines: Record<string, { gain: number | null; excluded: string | null }>;
}

type ConnectionState = "connecting" | "live" | "stalled" | "lost";

// -- what the modules share ------------------------------------------------------------------------------------------

interface Pixel {
  row: number;
  col: number;
}

/** Half open: `bottom` and `right` lie outside. */
interface Box {
  top: number;
  bottom: number;
  left: number;
  right: number;
}

/** The maps of all lines of one kind: `data` (line, row, col), every `stride`-th pixel each way. */
interface Stack {
  lines: number;
  rows: number;
  cols: number;
  data: Float32Array;
  stride: number;
  version: number;
}

interface Stacks {
  raw: Stack;
  denoised: Stack;
  uncertainty: Stack;
  /** null: the run has none; undefined: it is not shown, so it was not fetched. */
  chi2?: Stack | null;
  /** Whether a map has cells without a value between cells that have one. */
  holes?: boolean;
}

/** What the loader delivers. */
interface LoadedFrame {
  run: Run | null;
  stacks: Stacks | null;
  /** The earlier state that `run` and `stacks` show; absent for the newest. */
  earlier?: MapState | null;
  /** The run as it is now. */
  newest?: Run;
  /** Why there are no maps. */
  missing?: string;
}

/** What the page shows; without `stacks` there is no map yet. */
interface PageState {
  run: Run | null;
  stacks: Stacks | null;
  earlier: MapState | null;
  newest: Run | null;
  /** Counts the loads. */
  number: number;
  /** Maps with the same key have the same shape, lines and steps. */
  key: string;
}

/** What cards and panels show. */
interface Frame {
  run: MappedRun;
  stacks: Stacks;
  earlier: MapState | null;
  newest: Run;
  number: number;
}

type ValueRange = [low: number, high: number];
type ScaleName = "linear" | "sqrt" | "log";
type ShownKind = MapKind | "swipe" | "rgb";

/** How the maps are shown; kept in this browser. */
type UnitName = "counts" | "counts/s" | "ug/cm2";

interface UnitLine {
  line: string;
  factor: number | null;
  background: number;
  relative_error: number;
  reason: string;
}

interface UnitInfo {
  units: UnitName;
  available: boolean;
  reason: string;
  lines: UnitLine[];
  notes: string[];
}

interface OptionValues {
  kinds: MapKind[];
  unit: UnitName;
  scale: ScaleName;
  cmap: string;
  clip: number;
  sameRange: boolean;
  fillHoles: boolean;
  snr: number;
  swipe: boolean;
  panel: string;
}

interface ScaleBar {
  /** Map columns. */
  length: number;
  label: string;
  /** Size of the text, 1 as usual. */
  type: number;
}

/** A value and the part of the shown height or width at which it lies. */
type AxisTick = [value: number, part: number];

interface MapAxes {
  unit: string;
  rows: AxisTick[];
  cols: AxisTick[];
  type?: number;
}

interface ColourBar {
  kind: ShownKind;
  name: string;
  scale: ScaleName;
  range: ValueRange;
  shared: boolean;
  unit: string;
}

interface Point {
  x: number;
  y: number;
  low?: number | null;
  high?: number | null;
}

interface Series {
  kind: "dots" | "line";
  points: Point[];
  colour: string;
  dash?: number[];
  /** Name at the right end of the line. */
  end?: string;
}

interface Cell {
  text?: string;
  head?: boolean;
  style?: string;
  title?: string;
  node?: Node | null;
  span?: number;
}

type CsvValue = string | number | null | undefined;
