// Which language the page speaks, and how it says numbers.
import { recall, remember } from "./storage.js";
import { WORDS } from "./words.js";

const listeners = [];
let chosen = recall("language") ?? ofBrowser();
if (!(chosen in WORDS)) chosen = "en";

function ofBrowser() {
  const wanted = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((language) => language in WORDS) ?? "en";
}

export function language() {
  return chosen;
}

/** The words under a key, with {name} replaced by values. */
export function say(key, values = {}) {
  return WORDS[chosen][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** The words under a key, or `otherwise` where there are none: names of stages and fields come from the service. */
export function sayIfKnown(key, otherwise) {
  return key in WORDS[chosen] ? say(key) : otherwise;
}

export function number(value, digits = 0) {
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(chosen, options).format(value);
}

/** Call back whenever the language changes. */
export function onLanguage(listener) {
  listeners.push(listener);
}

export function speak(wanted) {
  chosen = wanted;
  remember("language", wanted);
  translatePage();
  for (const listener of listeners) listener();
}

/** Put the words into everything in the page that names a key. */
export function translatePage() {
  document.documentElement.lang = chosen === "zh" ? "zh-Hans" : "en";
  document.title = say("title");
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  for (const node of document.querySelectorAll("[data-say-placeholder]"))
    node.placeholder = say(node.dataset.sayPlaceholder);
  for (const node of document.querySelectorAll("[data-say-label]"))
    node.setAttribute("aria-label", say(node.dataset.sayLabel));
}

/** Connect the language switch. */
export function startLanguage() {
  for (const button of document.querySelectorAll("input[name=language]")) {
    button.checked = button.value === chosen;
    button.addEventListener("change", () => speak(button.value));
  }
  translatePage();
}
