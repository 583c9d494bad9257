// Long work: which jobs this browser has handed in, and how each of them stands.

import { sendJson, sleep } from "./api.js";
import { hasKey } from "./key.js";

const NAME = "jaguar-jobs";
const FINAL = new Set(["done", "failed", "cancelled"]);
// What passes by itself; the job goes on meanwhile.
const PASSING = new Set(["no-answer", "broken-off", "shutting-down", "stranger"]);
const POLL_MS = 1000;
const QUEUED_POLL_MS = 5000; // jobs are done one after the other
const MAX_PAUSE_MS = 15_000;

let listening = false;

/** The jobs that were handed in, the latest first: [{id, kind, name}]. */
export function remembered() {
  try {
    const list = JSON.parse(localStorage.getItem(NAME) ?? "[]");
    return Array.isArray(list) ? list.filter((job) => typeof job?.id === "string") : [];
  } catch {
    return []; // a browser that keeps nothing, or what was kept is no list: there is nothing to find again
  }
}

/** Keeps a job, so that a reload of the page finds it. */
export const remember = (job) => write([job, ...remembered().filter(({ id }) => id !== job.id)]);

/** Forgets it. */
export const forget = (gone) => write(remembered().filter(({ id }) => id !== gone));

/**
 * Follows a job: onState(its JSON) at each change, until it is finished. onTrouble(problem): the service does not
 * answer at the moment; it is asked again. Throws any other Problem, and an AbortError once `signal` says so.
 */
export async function follow(id, { onState, onTrouble, signal }) {
  for (let pause = POLL_MS; ; ) {
    try {
      const [state] = await sendJson(`jobs/${id}`, { signal });
      pause = POLL_MS;
      onState(state);
      if (FINAL.has(state.state)) return;
      // A browser's EventSource sends no key. And a browser opens six connections to one service and no more, in all of
      // its tabs together, so that one job is listened to and others are asked after.
      if (hasKey() || listening) await sleep(state.state === "queued" ? QUEUED_POLL_MS : POLL_MS, signal);
      else await listen(id, onState, signal);
    } catch (error) {
      if (!PASSING.has(error.slug)) throw error;
      onTrouble(error);
      await sleep(pause, signal);
      pause = Math.min(2 * pause, MAX_PAUSE_MS);
    }
  }
}

/** Hears of changes until there are no more, or until the connection is cut: whoever called asks then. */
function listen(id, onState, signal) {
  listening = true;
  return new Promise((resolve, reject) => {
    const events = new EventSource(`jobs/${id}/events`);
    const end = (settle, value) => {
      events.close();
      listening = false;
      settle(value);
    };
    events.addEventListener("state", (event) => {
      const state = JSON.parse(event.data);
      if (FINAL.has(state.state)) end(resolve);
      else onState(state);
    });
    events.addEventListener("error", () => end(resolve));
    signal.addEventListener("abort", () => end(reject, signal.reason), { once: true });
  });
}

function write(list) {
  try {
    localStorage.setItem(NAME, JSON.stringify(list));
  } catch {
    // A browser that keeps nothing for this page finds no job again after it is left.
  }
}
