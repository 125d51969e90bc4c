// Drawing scores: a bar with the threshold in it, and the time of each stage.
import { make } from "./dom.js";
import { number, say, sayIfKnown } from "./language.js";

const STAGE_DIGITS = 1;

/** A bar for a share from 0 to 1. What it shows stands beside it as a number, so screen readers skip it. */
export function bar(share, { kind, threshold = null }) {
  const fill = make("div", `fill ${kind}`);
  fill.style.width = `${100 * share}%`;
  const node = make("div", "bar", fill);
  if (threshold !== null) {
    const line = make("div", "threshold");
    line.style.left = `${100 * threshold}%`;
    node.append(line);
  }
  node.setAttribute("aria-hidden", "true");
  return node;
}

/** The scale over bars: where the threshold is. */
export function scale(threshold) {
  const label = make("span", "", say("threshold.is", { threshold: number(threshold, 2) }));
  const node = make("div", `scale ${threshold > 0.5 ? "left" : "right"}`, label);
  label.style[threshold > 0.5 ? "right" : "left"] = `${100 * (threshold > 0.5 ? 1 - threshold : threshold)}%`;
  return node;
}

/** Score, cosine and verdict of a title. */
export function judgement(item) {
  const verdict = make("span", `verdict ${item.match ? "yes" : "no"}`, say(item.match ? "match.yes" : "match.no"));
  return make(
    "div",
    "judgement",
    named("score", item.score, 3),
    named("cosine", item.cosine, 3),
    verdict,
  );
}

function named(name, value, digits) {
  return make("span", `value ${name}`, make("span", "name", say(name)), " ", make("b", "", number(value, digits)));
}

/**
 * The time of each stage as parts of one line, and in words. `spent`: what the browser waited, in milliseconds.
 * Some stages do something else in a box of another name.
 */
export function times(name, milliseconds, spent) {
  const stages = Object.entries(milliseconds);
  const total = stages.reduce((sum, [, time]) => sum + time, 0);
  const line = make("div", "stages");
  line.setAttribute("aria-hidden", "true");
  const legend = make("ul", "legend");
  stages.forEach(([stage, time], place) => {
    const part = make("div", `stage-${place % 4}`);
    part.style.flexGrow = String(Math.max(time, total / 200)); // half a percent at least: it was there
    line.append(part);
    const words = `${sayIfKnown(`stage.${name}.${stage}`, sayIfKnown(`stage.${stage}`, stage))} ${milli(time)}`;
    legend.append(make("li", "", make("i", `stage-${place % 4}`), words));
  });
  const sums = say("time.sums", { service: milli(total), browser: milli(spent) });
  return make("div", "times", make("p", "", sums), line, legend);
}

function milli(time) {
  return `${number(time, time < 0.1 ? 2 : STAGE_DIGITS)} ms`;
}
