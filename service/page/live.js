// What is live: service, release and bundle, with the quality that was measured when the bundle was made.
import { ask, readiness } from "./api.js";
import { failure } from "./box.js";
import { make, show } from "./dom.js";
import { number, onLanguage, say, sayIfKnown } from "./language.js";
import { tellSentiment } from "./sentiment.js";

const ID_DIGITS = 12; // as many as anybody compares by eye

const badge = document.getElementById("badge");
const place = document.getElementById("live-facts");
const notice = document.getElementById("no-release");

let known = null; // {info, ready}, or {error}

/** Look at the service again. */
export async function look() {
  try {
    const info = await ask("/info"); // first: it asks for the key that has the other one say more
    const ready = await readiness();
    known = { info, ready };
    tellSentiment(info.bundle);
  } catch (error) {
    known = { error };
  }
  draw();
}

/** Look for the first time, and whenever the page is looked at again; the promise is that of the first look. */
export function startLive() {
  document.getElementById("look-again").addEventListener("click", look);
  document.addEventListener("visibilitychange", () => document.hidden || look());
  onLanguage(() => known && draw());
  return look();
}

/** Look again when an answer came from another release than the one that is shown. */
export function seen({ release }) {
  if (known?.info?.release?.version !== release) look();
}

function draw() {
  if (known.error) {
    tell("bad", "state.unknown");
    show(place, failure(known.error));
    return;
  }
  const { info, ready } = known;
  notice.hidden = info.release !== null;
  const state = !ready.ready ? "bad" : ready.degraded.length ? "poor" : "good";
  tell(state, `state.${state}`);
  show(place, reasons(ready), facts(info), quality(info.bundle.metrics ?? {}));
}

function tell(state, words) {
  badge.className = `badge ${state}`;
  badge.textContent = say(words);
}

function reasons({ not_ready: missing, degraded }) {
  const all = [...missing, ...degraded];
  if (!all.length) return null;
  const list = make("ul", "failure", ...all.map((reason) => make("li", "", reason)));
  list.lang = "en"; // the service's own words
  return list;
}

function facts({ version, bundle, release, title_vectors: source }) {
  const exits = bundle.exit_layers.join(", ");
  const rows = [
    ["live.release", release ? release.version : say("live.none")],
    release && ["live.titles", number(release.count)],
    release && ["live.index", say("live.recall", { kind: release.index_kind, recall: number(release.recall, 3) })],
    ["live.vectors", sayIfKnown(`vectors.${source}`, source)],
    ["live.bundle", bundle.bundle_id.slice(0, ID_DIGITS), bundle.bundle_id],
    ["live.base", bundle.base_model ?? say("live.unknown")],
    ["live.dim", number(bundle.dim)],
    ["live.threshold", number(bundle.threshold, 3)],
    ["sentiment", say(!bundle.sentiment ? "live.nohead" : exits ? "live.exits" : "live.head", { exits })],
    ["live.version", version],
  ];
  const list = make("dl", "facts");
  for (const [key, value, whole] of rows.filter(Boolean)) {
    const shown = make("dd", "", value);
    if (whole) shown.title = whole;
    list.append(make("div", "", make("dt", "", say(key)), shown));
  }
  return list;
}

function quality({ fit, sentiment, export: exported }) {
  const parts = [pairs(fit), feelings(sentiment), rounding(exported)].filter(Boolean);
  const node = make("div", "quality", make("h3", "", say("quality")));
  node.append(...(parts.length ? parts : [make("p", "hint", say("quality.none"))]));
  return node;
}

/** Pairs that training did not see: the scorer beside plain cosine. */
function pairs(fit) {
  const total = fit?.total;
  if (!total?.score) return null;
  const sets = fit.sets?.length > 1 ? fit.sets : [];
  const rows = [...sets, { ...total, name: say("quality.all") }].map((set) => [
    set.name,
    number(set.pairs),
    share(set.score.auc),
    share(set.cosine?.auc),
    share(set.score.accuracy),
    share(set.score.calibration_error),
  ]);
  const head = ["pairs", "rows", "auc", "auc.cosine", "accuracy", "calibration"].map((key) => say(`quality.${key}`));
  return make("div", "", table(head, rows), make("p", "hint", say("quality.pairs.mean")));
}

function feelings(sentiment) {
  const shipped = sentiment?.quantized ?? sentiment;
  if (typeof shipped?.accuracy !== "number") return null;
  const values = { accuracy: share(shipped.accuracy), f1: share(shipped.macro_f1), rows: number(shipped.rows ?? 0) };
  return make("p", "", say("quality.sentiment", values));
}

function rounding(exported) {
  const mean = exported?.quantized?.mean_cosine;
  return typeof mean === "number" ? make("p", "", say("quality.int8", { mean: share(mean) })) : null;
}

function share(value) {
  return typeof value === "number" ? number(value, 3) : "–";
}

function table(head, rows) {
  const cells = head.map((words) => {
    const cell = make("th", "", words);
    cell.scope = "col";
    return cell;
  });
  const body = rows.map(([name, ...values]) => {
    const first = make("th", "", name);
    first.scope = "row";
    return make("tr", "", first, ...values.map((value, column) => labelled(value, head[column + 1])));
  });
  return make("table", "", make("thead", "", make("tr", "", ...cells)), make("tbody", "", ...body));
}

/** On a phone the head is not shown: each cell brings its own. */
function labelled(value, label) {
  const cell = make("td", "", value);
  cell.dataset.label = label;
  return cell;
}
