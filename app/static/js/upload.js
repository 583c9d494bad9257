// fetch does not tell how much of a body was sent; XMLHttpRequest does.

/** Like fetch, with `onSent(share)`, from 0 to 1. */
export function uploading(path, { method, body, headers, signal }, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.responseType = "blob";
    request.upload.addEventListener("progress", (event) => onSent(event.total ? event.loaded / event.total : 0));
    request.addEventListener("load", () => resolve(answer(request)));
    request.addEventListener("error", () => reject(new TypeError("no answer")));
    request.addEventListener("abort", () => reject(signal.reason));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    if (signal?.aborted) reject(signal.reason);
    else request.send(body);
  });
}

function answer(request) {
  const lines = request.getAllResponseHeaders().trim().split(/[\r\n]+/);
  const headers = lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]);
  const empty = request.status === 204 || request.status === 304;
  return new Response(empty ? null : request.response, { status: request.status, headers });
}
