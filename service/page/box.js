// What the three boxes have in common: a form, a place for the answer, one request at a time, Enter and Esc.
import { ApiError, ask } from "./api.js";
import { make, show } from "./dom.js";
import { language, number, onLanguage, say } from "./language.js";

/**
 * Bring a box to life.
 *
 * `request()` reads the form and returns a body, or null when there is nothing to ask; `render(answer, body, spent)`
 * returns nodes; `summary(answer, body)` is a sentence, which screen readers are told; `examples(language)` is a list
 * of {label, fill}.
 */
export function startBox({ name, path, request, render, summary, examples, onAnswer = () => {} }) {
  const box = document.getElementById(name);
  const form = box.querySelector("form");
  const first = form.querySelector("input, textarea");
  const status = box.querySelector("[role=status]");
  const result = box.querySelector(".result");
  let running = null;
  let shown = null; // draws again what is shown, in the language of the moment

  function put(draw) {
    shown = draw;
    draw();
  }

  function clear() {
    running?.abort();
    running = null;
    shown = null;
    box.removeAttribute("aria-busy");
    status.textContent = "";
    show(result);
  }

  async function submit() {
    const body = request();
    if (body === null) {
      clear();
      put(() => (status.textContent = say(`${name}.nothing`)));
      first.focus();
      return;
    }
    running?.abort();
    const mine = (running = new AbortController());
    box.setAttribute("aria-busy", "true");
    const start = performance.now();
    try {
      const answer = await ask(path, body, mine.signal);
      const spent = performance.now() - start;
      if (running !== mine) return;
      put(() => {
        status.textContent = summary(answer, body);
        show(result, ...render(answer, body, spent));
      });
      onAnswer(answer);
    } catch (error) {
      if (running !== mine || error.name === "AbortError") return;
      put(() => {
        status.textContent = "";
        show(result, failure(error));
      });
    } finally {
      if (running === mine) box.removeAttribute("aria-busy");
    }
  }

  function offerExamples() {
    const buttons = examples(language()).map(({ label, fill }) => {
      const button = make("button", "example", label);
      button.type = "button";
      button.addEventListener("click", () => {
        fill();
        submit();
      });
      return button;
    });
    show(box.querySelector(".examples"), make("span", "", say("examples")), ...buttons);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  form.addEventListener("keydown", (event) => {
    if (event.isComposing || event.target.tagName !== "TEXTAREA" || event.key !== "Enter") return;
    const sends = event.target.dataset.enter === "sends" ? !event.shiftKey : event.ctrlKey || event.metaKey;
    if (!sends) return;
    event.preventDefault();
    submit();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    const empty = shown === null && [...form.querySelectorAll("input, textarea")].every((field) => !field.value);
    if (empty) return document.activeElement.blur(); // a second Esc leaves the box, so that single keys work
    form.reset();
    clear();
    first.focus();
  });
  onLanguage(() => {
    offerExamples();
    shown?.();
  });
  offerExamples();
  return { submit, clear };
}

/** An error in the service's own words, after a sentence of ours. */
export function failure(error) {
  if (!(error instanceof ApiError)) throw error; // a bug of the page: the console is the place for it
  const status = error.status;
  const words = status === 0 ? say("error.unreachable") : say("error.answered", { status });
  const retry = error.retryAfter && status === 429 ? say("error.retry", { seconds: number(error.retryAfter) }) : null;
  const said = make("p", "", error.message);
  said.lang = "en";
  const node = make("div", "failure", make("strong", "", words), said, retry && make("p", "", retry));
  node.setAttribute("role", "alert");
  return node;
}
