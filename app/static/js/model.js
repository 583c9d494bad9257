// Which model answers: a line at the foot of the page, and the colour that it lays cut-outs on.

import { sendJson } from "./api.js";
import { byId } from "./dom.js";
import { asProblem } from "./problem.js";

/** Asks for the model and says what it is. A service that does not answer is no obstacle: the views will say so. */
export async function showModel() {
  const line = byId("model-line");
  try {
    const [model] = await sendJson("model");
    line.textContent = describe(model);
    showGround(model.preprocess);
  } catch (error) {
    const problem = asProblem(error);
    line.textContent = `Model unknown: ${problem.title.toLowerCase()}.`;
  }
}

function describe(model) {
  const [height, width] = model.preprocess.size;
  const { name, model_version: version, backbone } = model;
  const parts = [`Model ${name}, version ${version}: ${backbone} on ${width} × ${height} pixels`];
  const { id_map: quality, protocol } = model.metrics;
  if (typeof quality === "number") {
    const whose = protocol === "identity" ? "animals it had never seen" : "photos it had never seen";
    parts.push(`id-mAP ${quality.toFixed(3)} (1 is perfect) on ${whose}, of the kind it was trained on`);
  }
  parts.push(model.calibrated ? `calibrated for ${share(model.prior)} of pairs showing one jaguar` : "not calibrated");
  return `${parts.join("; ")}.`;
}

const share = (prior) => new Intl.NumberFormat("en", { style: "percent", maximumSignificantDigits: 2 }).format(prior);

/** Cut-outs are shown as the model sees them: on its colour; on a checker where it looks at what alpha hides. */
function showGround({ alpha, background }) {
  if (alpha !== "composite") return;
  const [red, green, blue] = background;
  document.documentElement.style.setProperty("--photo-ground", `rgb(${red} ${green} ${blue})`);
}
