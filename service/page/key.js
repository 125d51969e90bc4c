// The API key: asked for when the service wants one, kept until the tab is closed, sent nowhere else.
import { say } from "./language.js";
import { recall, remember } from "./storage.js";

let kept = recall("key", "sessionStorage");
let asking = null;

const dialog = document.getElementById("key-dialog");
const field = document.getElementById("key");
const forget = document.getElementById("forget-key");

export function key() {
  return kept;
}

export function forgetKey() {
  keep(null);
}

/** Ask the visitor; true when there is a key now. Several requests that wait share one dialog. */
export function askForKey(refused) {
  asking ??= new Promise((resolve) => {
    dialog.querySelector("[role=alert]").textContent = refused ? say("key.refused") : "";
    field.value = "";
    dialog.returnValue = "";
    dialog.showModal();
    const closed = () => {
      asking = null;
      resolve(kept !== null);
    };
    dialog.addEventListener("close", closed, { once: true });
  });
  return asking;
}

export function startKey(onForgotten) {
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    // A header holds no other characters; a key with others cannot be right.
    const given = field.value.trim().replace(/[^\x21-\x7e]/g, "");
    if (given) keep(given);
    dialog.close();
  });
  document.getElementById("key-cancel").addEventListener("click", () => dialog.close());
  forget.addEventListener("click", () => {
    keep(null);
    onForgotten();
  });
  keep(kept);
}

function keep(value) {
  kept = value;
  remember("key", value, "sessionStorage");
  forget.hidden = value === null;
}
