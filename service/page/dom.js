// Making nodes. Texts become text nodes, never HTML: titles come from anywhere.

/** An element with a class ("" for none) and children, which are nodes or texts. */
export function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A text in whatever direction it is written. */
export function foreign(tag, className, text) {
  const node = make(tag, className, text);
  node.dir = "auto";
  return node;
}

/** Show a list of nodes in place of what was there. */
export function show(place, ...nodes) {
  place.replaceChildren(...nodes.filter((node) => node !== null));
}
