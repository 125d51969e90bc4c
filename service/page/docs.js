// The link to /docs, where following it leads anywhere: a proxy may keep it from the world, and a link brings no key.
import { key } from "./key.js";

/** To be called once the service has answered, or refused: only then it is known whether it asks for a key. */
export async function startDocs() {
  document.getElementById("docs").hidden = key() !== null || !(await answers());
}

async function answers() {
  try {
    return (await fetch("/docs", { method: "HEAD", cache: "no-store" })).ok;
  } catch {
    return false;
  }
}
