// Many photos -> embeddings, in requests that are small enough for a progress bar and for Cancel.

import { sendJson } from "./api.js";
import { Problem } from "./problem.js";

const PHOTOS_AT_A_TIME = 8;
const BYTES_AT_A_TIME = 48e6;
// A photo that is one of these does not keep the others from being compared.
const PHOTO_STATUSES = new Set([413, 415, 422]);

/**
 * Embeds photos [{file, name}] in their order.
 *
 * onResult(photo, vector): a Float64Array. onRefused(photo, problem): the service cannot read it. `version` is that of
 * embeddings which are there already, or null; returns the version. Throws a Problem for anything else, and where the
 * version changes meanwhile: embeddings of two are never compared.
 */
export async function embed(photos, { version, signal, onResult, onRefused, onWait }) {
  for (const chunk of chunks(photos)) version = await embedChunk(chunk);
  return version;

  async function embedChunk(chunk) {
    const form = new FormData();
    for (const { file, name } of chunk) form.append("images", file, name);
    try {
      const [answer] = await sendJson("embed", { method: "POST", body: form, signal, onWait });
      if (version !== null && answer.model_version !== version) throw otherVersion(version, answer.model_version);
      answer.embeddings.forEach(({ embedding }, index) => onResult(chunk[index], Float64Array.from(embedding)));
      return answer.model_version;
    } catch (error) {
      if (!PHOTO_STATUSES.has(error.status)) throw error;
      if (chunk.length > 1) {
        const half = chunk.length >> 1;
        version = await embedChunk(chunk.slice(0, half));
        return embedChunk(chunk.slice(half));
      }
      onRefused(chunk[0], error);
      return version;
    }
  }
}

function* chunks(photos) {
  let chunk = [];
  let size = 0;
  for (const photo of photos) {
    if (chunk.length === PHOTOS_AT_A_TIME || (chunk.length && size + photo.file.size > BYTES_AT_A_TIME)) {
      yield chunk;
      chunk = [];
      size = 0;
    }
    chunk.push(photo);
    size += photo.file.size;
  }
  if (chunk.length) yield chunk;
}

const otherVersion = (before, now) =>
  new Problem({
    title: "The service has changed its model",
    detail: `Some photos were embedded by version ${before}, others by ${now}; they cannot be compared.`,
    slug: "other-version",
  });
