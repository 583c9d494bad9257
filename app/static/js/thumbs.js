// Small pictures of large photos, made when they are looked at: a hundred photos at full size are gigabytes of memory.

import { el } from "./dom.js";

const SIDE = 240;
const AT_A_TIME = 2;
const made = new WeakMap();
const waiting = [];
let busy = 0;

/** An <img> of a photo {file, name}, which shows it once it was made. The name stands beside it, so it has none. */
export function thumbnail({ file }) {
  const image = el("img", { class: "thumb", alt: "", width: SIDE, height: SIDE });
  if (!made.has(file)) made.set(file, new Promise((resolve) => waiting.push([file, resolve])));
  made.get(file).then((url) => {
    if (url) image.src = url;
    else image.classList.add("none");
  });
  next();
  return image;
}

function next() {
  if (busy >= AT_A_TIME || !waiting.length) return;
  busy++;
  const [file, resolve] = waiting.pop(); // the latest first: it is what is looked at now
  make(file)
    .catch(() => null) // the browser cannot read what the service could; a thumbnail is no more than a help
    .then((url) => {
      resolve(url);
      busy--;
      next();
    });
  next();
}

async function make(file) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.min(picture.width, picture.height));
  const canvas = el("canvas", { width: Math.round(picture.width * scale), height: Math.round(picture.height * scale) });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85));
  return URL.createObjectURL(blob);
}
