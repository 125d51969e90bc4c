// Asking the service. A failure is an ApiError with the service's own words.
import { askForKey, forgetKey, key } from "./key.js";

export class ApiError extends Error {
  /** `status` is 0 when there was no answer at all. */
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The answer to a GET, or to a POST where there is a body. Asks the visitor for a key when the service wants one. */
export async function ask(path, body, signal) {
  for (;;) {
    const used = key();
    const response = await send(path, body, signal, used);
    if (response.status !== 401) return answer(response);
    if (used !== null && used === key()) forgetKey();
    if (key() === null && !(await askForKey(used !== null))) return answer(response);
  }
}

/** Whether the service is ready: its own words come with status 503, too. Open without a key, which has it say more. */
export async function readiness() {
  return (await send("/health/ready", undefined, undefined, key())).json();
}

async function send(path, body, signal, used = null) {
  const headers = used === null ? {} : { Authorization: `Bearer ${used}` };
  const request = { headers, signal, cache: "no-store" };
  if (body !== undefined) {
    request.method = "POST";
    request.body = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  }
  try {
    return await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, error.message);
  }
}

async function answer(response) {
  const text = await response.text();
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    // A proxy answers in its own way.
  }
  if (response.ok && content !== null) return content;
  throw new ApiError(response.status, content?.error ?? text.slice(0, 500), response.headers.get("Retry-After"));
}
