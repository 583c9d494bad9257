// The view "Files": a CSV and its photos become a job, which goes on without the page.

import { clear, showProblem } from "./alerts.js";
import { sendJson } from "./api.js";
import { columnsOf } from "./csv.js";
import { announce, byId } from "./dom.js";
import { PHOTO_TYPES } from "./files.js";
import { JobCard } from "./jobcard.js";
import { remember, remembered } from "./jobs.js";
import { dropZone } from "./picker.js";
import { isCancelled } from "./problem.js";
import { bytes, many } from "./words.js";

const CALLS = { submission: ["submission", "test_csv"], batch: ["similarity/batch", "pairs"] };

const form = byId("files-form");
const problems = byId("files-problem");
const list = byId("jobs");
let csv = null;
let images = [];
let zones = null;

/** Builds the view, and finds the jobs of earlier visits. */
export function startTables() {
  zones = {
    csv: dropZone(byId("csv-drop"), {
      title: "Drop a CSV here",
      buttons: [["Choose a CSV", { accept: ".csv,text/csv" }]],
      take: ({ files }) => takeCsv(files[0].file),
    }),
    images: dropZone(byId("images-drop"), {
      title: "Drop a zip, photos or a folder here",
      buttons: [
        ["Choose files", { accept: `${PHOTO_TYPES},.zip,application/zip`, multiple: true }],
        ["Choose a folder", { folder: true }],
      ],
      take: takeImages,
    }),
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  for (const job of remembered().reverse()) {
    const card = show(job);
    card.status.textContent = "Asking the service";
    card.watch(job.id);
  }
}

/** Takes the CSV, and guesses from its columns what is to be made of it. */
async function takeCsv(file) {
  csv = file;
  clear(problems);
  zones.csv.say(`${file.name} · ${bytes(file.size)}`);
  byId("files-hint").textContent = "The whole table is checked before any photo is looked at.";
  const columns = await columnsOf(file).catch(() => []); // a folder, or a file that is gone: sending it will say so
  if (csv !== file || !columns.includes("query_image")) return;
  form.elements.kind.value = columns.includes("row_id") ? "submission" : "batch";
}

function takeImages({ files, leftOut }) {
  const tables = files.filter(({ name }) => /\.csv$/i.test(name));
  images = files.filter((one) => !tables.includes(one));
  if (tables.length === 1 && !csv) takeCsv(tables[0].file);
  const size = images.reduce((sum, { file }) => sum + file.size, 0);
  const what = images.length === 1 ? images[0].name : many(images.length, "file");
  zones.images.say(`${what} · ${bytes(size)}${leftOut ? ` · ${many(leftOut, "other file")} left out` : ""}`);
}

async function start() {
  if (!csv) {
    byId("files-hint").textContent = "There is no table yet: choose a CSV first.";
    announce("There is no table yet. Choose a CSV first.");
    byId("csv-drop").querySelector("input").focus();
    return;
  }
  clear(problems);
  const kind = form.elements.kind.value;
  const [path, part] = CALLS[kind];
  const body = new FormData();
  body.append(part, csv, csv.name);
  for (const { file, name } of images) body.append("images", file, name);
  const size = bytes([csv, ...images.map(({ file }) => file)].reduce((sum, file) => sum + file.size, 0));
  const card = show({ name: csv.name, kind });
  card.sent(0, size);
  announce(`Sending ${csv.name}.`);
  window.addEventListener("beforeunload", askBeforeLeaving);
  try {
    const [job] = await sendJson(path, {
      method: "POST",
      body,
      headers: { Prefer: "respond-async" },
      signal: card.signal,
      onSent: (share) => card.sent(share, size),
      onWait: (seconds) => card.waits(seconds),
    });
    remember({ id: job.id, kind, name: csv.name });
    card.watch(job.id);
  } catch (error) {
    if (isCancelled(error)) return;
    card.element.remove();
    showProblem(problems, error, { retry: start, about: `– ${csv.name}` });
    problems.scrollIntoView({ block: "nearest" });
  } finally {
    window.removeEventListener("beforeunload", askBeforeLeaving);
  }
}

/** Until all was sent there is no job that would go on without the page. */
const askBeforeLeaving = (event) => event.preventDefault();

function show(job) {
  const card = new JobCard(job);
  list.prepend(card.element);
  return card;
}
