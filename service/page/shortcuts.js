// Single keys that lead to the boxes. They rest while somebody types, and can be switched off: speech input and
// unsteady hands press keys by accident.
import { recall, remember } from "./storage.js";

const TARGETS = {
  "/": "search-query",
  m: "match-query",
  s: "sentiment-text",
  i: "live-title",
};

const dialog = document.getElementById("shortcuts");
const wanted = document.getElementById("single-keys");

export function startShortcuts() {
  wanted.checked = recall("single-keys") !== "off";
  wanted.addEventListener("change", () => remember("single-keys", wanted.checked ? null : "off"));
  document.getElementById("show-shortcuts").addEventListener("click", () => dialog.showModal());
  document.getElementById("hide-shortcuts").addEventListener("click", () => dialog.close());
  document.addEventListener("keydown", pressed);
}

function pressed(event) {
  if (!wanted.checked || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (document.querySelector("dialog[open]") || typing(event.target)) return;
  if (event.key === "?") return dialog.showModal();
  const target = document.getElementById(TARGETS[event.key] ?? "");
  if (target === null) return;
  event.preventDefault(); // or the key would be typed into the field
  target.focus();
  target.closest("section").scrollIntoView({ block: "nearest" });
}

function typing(target) {
  return target.matches("textarea, select, input:not([type=radio], [type=checkbox])");
}
