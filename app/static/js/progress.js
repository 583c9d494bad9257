// A progress bar with its sentence, the time that is left, and Cancel.

import { announce, byId } from "./dom.js";
import { count, duration } from "./words.js";

/** Over the elements #NAME-progress, #NAME-bar, #NAME-status and #NAME-cancel. */
export class Progress {
  #run = null;

  constructor(name) {
    [this.line, this.bar, this.status] = ["progress", "bar", "status"].map((part) => byId(`${name}-${part}`));
    byId(`${name}-cancel`).addEventListener("click", () => {
      this.cancel();
      announce("Cancelled.");
    });
  }

  /** Ends the run that is under way, if there is one. */
  cancel() {
    this.#run?.abort();
  }

  /** Begins to count to `total`, in place of what was counted before. Returns {signal, advance(), say(text), end()}. */
  begin(total, what) {
    this.cancel();
    const run = new AbortController();
    this.#run = run;
    const began = performance.now();
    let done = 0;
    const show = (text) => {
      if (this.#run !== run) return;
      this.bar.value = done / total;
      this.status.textContent = text;
    };
    this.line.hidden = false;
    show(`${what}: 0 of ${count(total)}`);
    announce(`${what}.`);
    return {
      signal: run.signal,
      advance: () => {
        done++;
        const left = ((performance.now() - began) / 1000 / done) * (total - done);
        show(`${what}: ${count(done)} of ${count(total)}${done < total ? `, about ${duration(left)} left` : ""}`);
      },
      say: show,
      end: () => {
        if (this.#run !== run) return;
        this.#run = null;
        this.line.hidden = true;
      },
    };
  }
}
