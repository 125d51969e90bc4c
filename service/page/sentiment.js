// The sentiment box: what one text says, as three probabilities.
import { make } from "./dom.js";
import { startBox } from "./box.js";
import { number, say } from "./language.js";
import { bar, times } from "./scores.js";

const EXAMPLES = {
  en: ["Absolutely love this kettle!", "The parcel was delivered on Tuesday.", "Broke after two days."],
  zh: ["拿在手里挺有分量，喜欢。", "包裹今天下午三点到达。", "用了三天就不开机了。"],
};
const NAMES = ["positive", "neutral", "negative"]; // best first, as people read it

let layers = []; // of the bundle's exits; empty for a head without

/** Say which exits the bundle's head has, and whether it has a head at all. */
export function tellSentiment({ sentiment, exit_layers: exits }) {
  layers = exits;
  document.getElementById("no-sentiment").hidden = sentiment;
  document.querySelector("#sentiment fieldset").disabled = !sentiment;
}

export function startSentiment() {
  const text = document.getElementById("sentiment-text");
  return startBox({
    name: "sentiment",
    path: "/v1/sentiment",
    request: () => (text.value.trim() ? { text: text.value.trim() } : null),
    render,
    summary,
    examples: (language) => EXAMPLES[language].map((label) => ({ label, fill: () => (text.value = label) })),
  });
}

function summary({ name, probabilities }) {
  return say("sentiment.says", { name: say(name), share: percent(probabilities[name]) });
}

function render(answer, body, spent) {
  const rows = NAMES.map((name) => row(name, answer));
  return [make("ul", "shares", ...rows), exit(answer.exit_layer), times("sentiment", answer.milliseconds, spent)];
}

function row(name, { name: best, probabilities }) {
  return make(
    "li",
    name === best ? "best" : "",
    make("span", "name", say(name)),
    bar(probabilities[name], { kind: name }),
    make("b", "", percent(probabilities[name])),
  );
}

/** The layer at which the head was sure; null for a head without exits. */
function exit(layer) {
  if (layer === undefined) return null;
  const last = Math.max(layer, ...layers);
  return make("p", "exit", say(layer < last ? "sentiment.early" : "sentiment.late", { layer, last }));
}

function percent(share) {
  return `${number(100 * share, 1)} %`;
}
