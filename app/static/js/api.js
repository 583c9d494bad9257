// One road to the service: with the key, with patience where it is busy, and with a Problem where it fails.

import { askForKey, keyHeader } from "./key.js";
import { fromResponse, isCancelled, noAnswer } from "./problem.js";
import { uploading } from "./upload.js";

// A request that was refused for these reasons has done nothing, and may be sent again.
const PASSING = new Set(["busy", "too-many-requests"]);
const MAX_WAITS = 5;
const MAX_WAIT_S = 120;

/**
 * Asks the service; a Response that is a success comes back.
 *
 * onSent(share): how much of the body was sent, from 0 to 1. onWait(seconds): the service is busy, and is asked again
 * after so long. Throws a Problem, or an AbortError once `signal` says so.
 */
export async function send(path, { method = "GET", body, headers = {}, signal, onSent, onWait } = {}) {
  for (let waits = 0; ; ) {
    const key = keyHeader();
    const request = { method, body, headers: { ...headers, ...key }, signal, cache: "no-store" };
    const response = await ask(path, request, onSent);
    if (response.ok) return response;
    const problem = await fromResponse(response);
    if (response.status === 401 && (await askForKey(key))) continue;
    const seconds = Number(response.headers.get("Retry-After"));
    if (!PASSING.has(problem.slug) || !(seconds <= MAX_WAIT_S) || ++waits > MAX_WAITS) throw problem;
    onWait?.(seconds);
    await sleep(seconds * 1000, signal);
  }
}

/** Like `send`, for an answer in JSON: [what it says, the Response]. */
export async function sendJson(path, options) {
  const response = await send(path, options);
  return [await read(response, "json"), response];
}

/** The rest of an answer, as `json` or as a `blob`. Throws what `send` does: it may break off as well. */
export async function read(response, as) {
  try {
    return await response[as]();
  } catch (error) {
    if (isCancelled(error)) throw error;
    throw noAnswer(await isAlive());
  }
}

/** Waits; throws an AbortError once `signal` says so. */
export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
    function done() {
      signal?.removeEventListener("abort", stop);
      resolve();
    }
    function stop() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    if (signal?.aborted) stop();
  });
}

async function ask(path, request, onSent) {
  try {
    return await (onSent ? uploading(path, request, onSent) : fetch(path, request));
  } catch (error) {
    if (isCancelled(error)) throw error;
    throw noAnswer(await isAlive());
  }
}

async function isAlive() {
  try {
    return (await fetch("health/live", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}
