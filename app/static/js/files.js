// Files as people hand them over: chosen, dropped or pasted; single ones, or folders with all that is below them.

const PHOTO = /\.(jpe?g|png|webp)$/i;
const FROM_FOLDER = /\.(jpe?g|png|webp|zip|csv)$/i;

/** What the pickers offer. What a file is, the service finds out from its content. */
export const PHOTO_TYPES = "image/jpeg,image/png,image/webp,.jpg,.jpeg,.png,.webp";

/** A file and the name that it goes by: inside a folder that was chosen, its path below that. */
const named = (file, name = file.name) => ({ file, name });

/** What an <input type=file> has: {files: [{file, name}], leftOut: how many others were in a folder}. */
export function filesFromInput(input) {
  const all = [...input.files];
  if (!input.webkitdirectory) return { files: all.map((file) => named(file)), leftOut: 0 };
  const found = all.map((file) => named(file, belowFirst(file.webkitRelativePath)));
  return sift(found);
}

/** What was pasted, likewise. Screenshots are all called image.png. */
export function filesFromPaste(event) {
  return { files: [...(event.clipboardData?.files ?? [])].map((file) => named(file)), leftOut: 0 };
}

/** What was dropped, likewise. To be called while the event is still under way: its items are gone afterwards. */
export async function filesFromDrop(event) {
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) {
    return { files: [...event.dataTransfer.files].map((file) => named(file)), leftOut: 0 };
  }
  const lists = await Promise.all(entries.map((entry) => below(entry)));
  const alone = entries.length === 1;
  return sift(lists.flat().map(({ file, name }) => named(file, alone ? belowFirst(name) : name)));
}

/** Whether a drag has files in it, and not a piece of text. */
export const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

/** Whether a name ends like a photo's. */
export const looksLikePhoto = (name) => PHOTO.test(name);

function sift(found) {
  const files = found.filter(({ name }) => FROM_FOLDER.test(name) && !name.split("/").some(isHidden));
  return { files, leftOut: found.length - files.length };
}

const isHidden = (step) => step.startsWith(".") || step === "__MACOSX";

const belowFirst = (path) => path.slice(path.indexOf("/") + 1);

/** All files of an entry, with their paths from it on. */
async function below(entry) {
  if (!entry) return [];
  if (entry.isFile) return [named(await promised(entry, "file"), entry.fullPath.slice(1))];
  const reader = entry.createReader();
  const found = [];
  // A reader hands out a hundred at a time, until it has none.
  for (let more = await promised(reader, "readEntries"); more.length; more = await promised(reader, "readEntries")) {
    found.push(...more);
  }
  return (await Promise.all(found.map((one) => below(one)))).flat();
}

const promised = (owner, method) => new Promise((resolve, reject) => owner[method](resolve, reject));
