// The score of two photos in plain words, honest about what it is not.

import { byId, el } from "./dom.js";
import { duration, score } from "./words.js";

const number = byId("score-number");
const meter = byId("score-meter");
const words = byId("score-words");
const fine = byId("score-fine");

const UNCALIBRATED = [
  "This is a score, not a probability: the model is not calibrated," +
    " so nobody has measured how often such a score means the same jaguar.",
  "Use it to rank: the higher, the better the candidate." +
    " Compare it with pairs that you know, and look at both photos before you decide.",
];

/** Shows an answer of /similarity, and how long it took. */
export function showVerdict(answer, serverTiming, seconds) {
  const { similarity, probability, verdict } = answer;
  number.textContent = score(similarity);
  delete number.dataset.empty;
  setMeter(similarity, score(similarity));
  words.replaceChildren(...sentences(probability, verdict).map((text) => el("p", { text })));
  fine.textContent = [`model ${answer.model_version}`, ...timing(serverTiming, seconds)].join(" · ");
}

const LIKE_THOSE =
  "The probability holds for photos like those that the model was calibrated with. Look at both before you decide.";
const UNSURE = "The model is not calibrated: this is no probability.";

const VERDICTS = {
  same: "Verdict: same. Of 100 pairs of different jaguars, at most one scores as high.",
  different: "Verdict: different. Of 100 pairs of one and the same jaguar, at most five score as low.",
  uncertain: "Verdict: uncertain. One jaguar and two different ones both score like this often enough.",
};

const AT_REST = [
  "The score appears here as soon as there are two photos.",
  "1 is the same photo twice, 0.5 is two that have nothing in common.",
  "A score ranks candidates. It does not decide: look at both photos before you do.",
];

/** No score, and why. */
export function forgetVerdict(...why) {
  number.textContent = "–";
  number.dataset.empty = "";
  setMeter(0, "no score yet");
  words.replaceChildren(...(why.length ? why : AT_REST).map((text) => el("p", { text })));
  fine.textContent = "";
}

/** What is said aloud of an answer. */
export function spoken({ similarity, probability, verdict }) {
  const said = probability === null ? [UNSURE] : sentences(probability, verdict).slice(0, 2);
  return `Similarity ${score(similarity)}. ${said.join(" ")}`;
}

function sentences(probability, verdict) {
  if (probability === null) return UNCALIBRATED;
  const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 }).format(probability);
  return [`Both photos show the same jaguar with a probability of ${percent}.`, VERDICTS[verdict], LIKE_THOSE];
}

function setMeter(value, text) {
  meter.setAttribute("aria-valuenow", String(value));
  meter.setAttribute("aria-valuetext", text);
  meter.style.setProperty("--value", String(value));
}

/** `Server-Timing: decode;dur=61.2, forward;dur=70.1, total;dur=140.0` -> what a person wants to know of it. */
function timing(header, seconds) {
  const phases = new Map();
  for (const entry of (header ?? "").split(",")) {
    const [name, ...rest] = entry.trim().split(";");
    const took = rest.find((part) => part.startsWith("dur="));
    if (took) phases.set(name, Number(took.slice(4)));
  }
  const said = [`${milliseconds(phases.get("total") ?? seconds * 1000)} in all`];
  if (!phases.has("forward") && phases.size) return [...said, "both photos were known already"];
  if (phases.has("decode")) said.push(`reading the photos ${milliseconds(phases.get("decode"))}`);
  if (phases.has("forward")) said.push(`the network ${milliseconds(phases.get("forward"))}`);
  return said;
}

const milliseconds = (value) => (value < 1000 ? `${Math.round(value)} ms` : duration(value / 1000));
