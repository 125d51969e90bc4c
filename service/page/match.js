// The match box: one query, several titles, and how well each matches.
import { foreign, make } from "./dom.js";
import { startBox } from "./box.js";
import { number, say } from "./language.js";
import { bar, judgement, scale, times } from "./scores.js";

const EXAMPLES = {
  en: [
    {
      query: "cover for velora x6",
      titles: [
        "Phone case, fits the Velora X6",
        "Velora X6 Smartphone, 256 GB, Graphite",
        "Kettle, stainless steel, 1.7 l",
      ],
    },
    {
      query: "how do I reset my password?",
      titles: ["I forgot my password, what now?", "How do I change my e-mail address?", "Where is my parcel?"],
    },
  ],
  zh: [
    {
      query: "信用卡还款日能往后挪吗",
      titles: ["信用卡还款日可以修改吗", "信用卡怎么注销", "快递到哪里了"],
    },
    { query: "手机壳 防摔", titles: ["加厚防摔手机壳", "手机钢化膜", "保温杯 500ml"] },
  ],
};

export function startMatch() {
  const query = document.getElementById("match-query");
  const titles = document.getElementById("match-titles");
  const fill = (example) => () => {
    query.value = example.query;
    titles.value = example.titles.join("\n");
  };
  return startBox({
    name: "match",
    path: "/v1/match",
    request: () => asked(query.value.trim(), lines(titles.value)),
    render,
    summary,
    examples: (language) =>
      EXAMPLES[language].map((example) => ({ label: example.query, fill: fill(example) })),
  });
}

function asked(query, titles) {
  return query && titles.length ? { query, titles: titles.map((text) => ({ text })) } : null;
}

function lines(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

function summary({ matches }) {
  const good = matches.filter((item) => item.match).length;
  return say("match.found", { count: number(matches.length), good: number(good) });
}

function render({ matches, threshold, milliseconds }, { titles }, spent) {
  const judged = matches.map((item, place) => ({ ...item, title: titles[place].text }));
  judged.sort((one, other) => other.score - one.score);
  const list = make("ol", "titles plain", ...judged.map((item) => row(item, threshold)));
  return [scale(threshold), list, times("match", milliseconds, spent)];
}

function row(item, threshold) {
  return make(
    "li",
    item.match ? "yes" : "no",
    foreign("p", "title", item.title),
    bar(item.score, { kind: item.match ? "yes" : "no", threshold }),
    make("div", "under", judgement(item)),
  );
}
