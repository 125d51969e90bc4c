// The search box: a query, and the titles of the published release that match it best.
import { foreign, make } from "./dom.js";
import { startBox } from "./box.js";
import { number, say } from "./language.js";
import { bar, judgement, scale, times } from "./scores.js";

// Written for the titles in examples/; on another release they are as good as any.
const EXAMPLES = {
  en: [
    "somebody stole my card",
    "stop my subscription from renewing by itself",
    "get rid of mice without killing them",
  ],
  zh: ["iphone15 手机套 摔不坏的", "电瓶车在楼里充电着火", "信用卡还款日能往后挪吗"],
};

export function startSearch(onAnswer) {
  const query = document.getElementById("search-query");
  const count = document.getElementById("search-count");
  return startBox({
    name: "search",
    path: "/v1/search",
    request: () => (query.value.trim() ? { query: query.value.trim(), k: Number(count.value) } : null),
    render,
    summary,
    examples: (language) => EXAMPLES[language].map((label) => ({ label, fill: () => (query.value = label) })),
    onAnswer,
  });
}

function summary({ matches }) {
  const good = matches.filter((item) => item.match).length;
  return matches.length
    ? say("search.found", { count: number(matches.length), good: number(good) })
    : say("search.none");
}

function render({ matches, threshold, milliseconds }, body, spent) {
  const list = make("ol", "titles", ...matches.map((item) => found(item, threshold)));
  return [matches.length ? scale(threshold) : null, list, times("search", milliseconds, spent)];
}

function found(item, threshold) {
  const facts = Object.entries(item.fields).map(([name, value]) => `${name}: ${shown(value)}`);
  return make(
    "li",
    item.match ? "yes" : "no",
    foreign("p", "title", item.title),
    bar(item.score, { kind: item.match ? "yes" : "no", threshold }),
    make("div", "under", judgement(item), foreign("span", "facts", [item.id, ...facts].join(" · "))),
  );
}

function shown(value) {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
