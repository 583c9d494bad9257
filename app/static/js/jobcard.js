// One job as a card: where it stands, how long it will take, its CSV, or why there is none.

import { describe } from "./alerts.js";
import { read, send } from "./api.js";
import { save } from "./csv.js";
import { announce, el } from "./dom.js";
import { asProblem, fromJson, isCancelled } from "./problem.js";
import { follow, forget } from "./jobs.js";
import { count, duration, many } from "./words.js";

const KINDS = { submission: "submission", batch: "scored pairs" };

/** A job's card, in a list. */
export class JobCard {
  #life = new AbortController();
  #button;
  #download;

  constructor({ name, kind }) {
    this.name = name;
    this.status = el("p", { class: "status" });
    this.bar = el("progress", { max: "1", value: "0", "aria-label": `Progress of ${name}` });
    this.problem = el("div", { role: "alert" });
    this.#download = button("Download", `Download the ${KINDS[kind]} of ${name}`, "primary");
    this.#download.hidden = true;
    this.#button = button("Cancel", `Cancel ${name}`);
    const title = el("p", { class: "title" }, el("strong", { text: name }), ` ${KINDS[kind] ?? kind}`);
    const words = el("div", { class: "job-words" }, title, this.status);
    const buttons = el("div", { class: "buttons" }, this.#download, this.#button);
    this.element = el("li", { class: "card job" }, words, buttons, this.bar, this.problem);
    this.#button.addEventListener("click", () => this.remove());
    this.#download.addEventListener("click", () => this.#fetch());
  }

  /** While its files are sent; Cancel aborts this signal. */
  get signal() {
    return this.#life.signal;
  }

  /** How much was sent, from 0 to 1. */
  sent(share, size) {
    this.bar.value = share;
    const percent = Math.floor(share * 100);
    this.status.textContent = share < 1 ? `Sending ${percent} % of ${size}` : "Looking through what was sent";
  }

  /** The service is busy. */
  waits(seconds) {
    this.status.textContent = `The service is busy; trying again in ${seconds} s`;
  }

  /** Follows the job with this id until it is finished. */
  async watch(id) {
    this.id = id;
    try {
      await follow(id, {
        onState: (state) => this.#show(state),
        onTrouble: (problem) => (this.status.textContent = `${problem.title}; the job is not lost, trying again`),
        signal: this.signal,
      });
    } catch (error) {
      if (isCancelled(error)) return;
      const problem = asProblem(error);
      if (problem.slug === "unknown-job") forget(id);
      this.#end(problem.slug === "unknown-job" ? "Gone" : "Unknown", problem);
    }
  }

  /** Cancels the job where it is not finished, removes it from the service and from the page. */
  async remove() {
    this.#life.abort(); // what is being sent, or whoever watches
    try {
      if (this.id) await send(`jobs/${this.id}`, { method: "DELETE" });
    } catch (error) {
      if (asProblem(error).slug !== "unknown-job") {
        this.problem.replaceChildren(describe(asProblem(error)));
        this.#life = new AbortController();
        return;
      }
    }
    if (this.id) forget(this.id);
    const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
    this.element.remove();
    (next?.querySelector("button:not([hidden])") ?? document.getElementById("files-start")).focus();
    announce(`${this.name} was removed.`);
  }

  #show(state) {
    const share = state.total ? state.done / state.total : 0;
    this.bar.value = share;
    if (state.state === "done") this.#done(state);
    else if (state.state === "failed") this.#end("Failed", fromJson(state.problem));
    else if (state.state === "cancelled") this.#end("Cancelled");
    else if (state.state === "queued") this.status.textContent = "Waiting for its turn";
    else this.status.textContent = `${counted(state)}${timeLeft(state)}`;
  }

  #done(state) {
    const seconds = (Date.parse(state.finished) - Date.parse(state.started)) / 1000;
    this.#end(`Done: ${many(state.total, "photo")} in ${duration(seconds)}, model ${state.model_version}`);
    this.#download.hidden = false;
  }

  #end(text, problem = null) {
    this.status.textContent = text;
    this.bar.hidden = true;
    this.problem.replaceChildren(...(problem ? [describe(problem)] : []));
    this.#button.textContent = "Remove";
    this.#button.setAttribute("aria-label", `Remove ${this.name}`);
    announce(`${this.name}: ${text}`);
  }

  async #fetch() {
    try {
      const response = await send(`jobs/${this.id}/result`);
      const named = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
      save([await read(response, "blob")], named ? named[1] : "scores.csv");
      this.problem.replaceChildren();
    } catch (error) {
      this.problem.replaceChildren(describe(asProblem(error)));
    }
  }
}

const button = (text, label, look = "") => el("button", { type: "button", class: look, text, "aria-label": label });

const counted = ({ done, total }) => (done < total ? `${count(done)} of ${many(total, "photo")}` : "Writing the CSV");

/** From how long the photos took so far; nothing before there is something to go by. */
function timeLeft({ started, done, total }) {
  const seconds = (Date.now() - Date.parse(started)) / 1000;
  if (!(seconds > 1) || !done || done >= total) return "";
  return `, about ${duration((seconds / done) * (total - done))} left`;
}
