// What to do about a problem, by the end of its type.

const RESAVE = "Open the photo in a picture program, save it as JPEG, PNG or WebP, and choose it again.";
const ASK = "Whoever runs the service can raise the limit";

const HINTS = {
  "unsupported-format": `${RESAVE} What is in the file counts, not the end of its name.`,
  "unreadable-image": `The file is damaged or was cut short. Copy it again from where it came from. ${RESAVE}`,
  "too-many-pixels": `Make the photo smaller. ${ASK}: JAGUAR_MAX_PIXELS.`,
  "invalid-table": "Correct the lines that are named, and hand the CSV in again. Nothing was computed.",
  "too-many-rows": `Split the CSV. ${ASK}: JAGUAR_MAX_CSV_ROWS.`,
  "unknown-image":
    "Add the photos that are named, or correct their names in the CSV." +
    " A folder’s photos are looked up by their path inside the folder that was chosen.",
  "ambiguous-image": "Name the folder in the CSV as well, or remove one of the two files.",
  "unsafe-name": "Use names that stay inside their folder: no “..”, no leading slash, no links.",
  "duplicate-image": "Remove one of the two, or put them into folders of their own and name those in the CSV.",
  "no-images": "Add the photos, as a zip or from their folder.",
  "unreadable-zip": "Pack the zip again, without a password, or choose the photos themselves.",
  "zip-too-large": "Split the zip in two, or hand in fewer photos.",
  "file-too-large": `Make the file smaller. ${ASK}: JAGUAR_MAX_IMAGE_BYTES, JAGUAR_MAX_CSV_BYTES.`,
  "body-too-large": `Hand in less at once. ${ASK}: JAGUAR_MAX_BODY_BYTES, JAGUAR_MAX_IMAGES_BODY_BYTES.`,
  "too-many-parts": `Put the photos into one zip: it counts as one file. ${ASK}: JAGUAR_MAX_FILES.`,
  "busy": "Others are at work. Try again in a moment.",
  "timeout": "The machine is slow at the moment. Try again.",
  "invalid-body": "The upload did not arrive whole. Try again; if it stays, a proxy in between cuts it short.",
  "body-timeout": "The upload stood still for too long. Check the connection and try again.",
  "shutting-down": "Try again once the service has started anew.",
  "not-ready": "Try again in a moment.",
  "too-many-requests": "Wait for as long as it says, then try again.",
  "unauthorized": "Try again and enter the key that whoever runs the service gave you.",
  "no-places": "The score stands without a map. Serve a ConvNeXt with pooling avg or grid to see one.",
  "unknown-job": "Hand the table in again.",
  "no-space": "Whoever runs the service must make room on its disk. Then try again.",
  "internal-error": "Try again. If it comes back, tell whoever runs the service the request id: its log says more.",
  "stranger": "A proxy may be in the way. Try again, or tell whoever runs the service.",
  "broken-off": "Choose the files again, then try again.",
  "no-answer":
    "Check that it is running (make serve) and that the network is up, then try again." +
    " The page need not be loaded again.",
  "other-version": "Compare them again, so that all embeddings are of one version.",
  "page-error": "Load the page again. If it comes back, tell whoever runs the service what you did.",
};

/** A sentence or two; empty for a problem that has said it all. */
export const hintFor = (problem) => HINTS[problem.slug] ?? "";
