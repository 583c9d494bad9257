// What went wrong: the service's own words (RFC 9457), or the page's where the service said nothing.

const URN = "urn:jaguar-reid:problem:";

/** A problem. `slug` is the end of its type, by which hints.js knows it. */
export class Problem extends Error {
  constructor({ title, detail, slug = "", status = 0, problems = [], requestId = "" }) {
    super(detail);
    Object.assign(this, { name: "Problem", title, detail, slug, status, problems, requestId });
  }
}

/** A problem's JSON -> a Problem. */
export function fromJson(body) {
  return new Problem({
    title: String(body.title),
    detail: String(body.detail),
    slug: String(body.type).replace(URN, ""),
    status: Number(body.status),
    problems: Array.isArray(body.problems) ? body.problems.map(String) : [],
    requestId: String(body.request_id ?? ""),
  });
}

/** An answer that is no success -> a Problem. What stands between page and service may answer in words of its own. */
export async function fromResponse(response) {
  if ((response.headers.get("Content-Type") ?? "").startsWith("application/problem+json")) {
    return fromJson(await response.json());
  }
  return new Problem({
    title: "The answer is not the service’s",
    detail: `Something between this page and the service answered with status ${response.status}.`,
    slug: "stranger",
    status: response.status,
    requestId: response.headers.get("X-Request-ID") ?? "",
  });
}

/** Nobody answered. `alive`: the service does, when it is asked for nothing but its health. */
export function noAnswer(alive) {
  return alive
    ? new Problem({
        title: "The request broke off",
        detail: "The connection was cut, or a chosen file was changed, moved or deleted since.",
        slug: "broken-off",
      })
    : new Problem({
        title: "The service does not answer",
        detail: "It has been stopped, or this device has lost its connection to it.",
        slug: "no-answer",
      });
}

/** Any error -> a Problem. One that nobody expected is the page's own fault, and is also written to the console. */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem({ title: "The page made an error", detail: String(error?.message ?? error), slug: "page-error" });
}

/** Whether somebody pressed Cancel, which is nothing to complain about. */
export const isCancelled = (error) => error instanceof DOMException && error.name === "AbortError";
