// What the browser remembers for this page. A browser may refuse to keep anything; the page works all the same.

/** The remembered value, or null. */
export function recall(name, storage = "localStorage") {
  try {
    return window[storage].getItem(`dualtower.${name}`);
  } catch {
    return null;
  }
}

/** Remember a value; null forgets it. */
export function remember(name, value, storage = "localStorage") {
  try {
    if (value === null) window[storage].removeItem(`dualtower.${name}`);
    else window[storage].setItem(`dualtower.${name}`, value);
  } catch {
    // Kept for this visit only, by whoever asked.
  }
}
