// CSV as the service reads and writes it.

/** A field, quoted where it must be. */
const field = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** Nine significant digits, as the service writes them: rounding ties nothing. */
export const digits = (value) => String(Number(value.toPrecision(9)));

/** All pairs of N photos, each in both directions and none with itself, as pieces of text. */
export function pairsCsv(names, values) {
  const n = names.length;
  const fields = names.map(field);
  const rows = fields.map((query, i) =>
    fields.map((gallery, j) => (i === j ? "" : `${query},${gallery},${digits(values[i * n + j])}\n`)).join(""),
  );
  return ["query_image,gallery_image,similarity\n", ...rows];
}

/** The column names of a CSV's first line; quotes around them, and a byte order mark, are not part of them. */
export async function columnsOf(file) {
  const start = await file.slice(0, 65536).text(); // text() takes the mark away
  const line = start.split(/\r\n|\r|\n/, 1)[0];
  return line.split(",").map((name) => name.trim().replace(/^"(.*)"$/, "$1"));
}

/** Hands a file to the person: pieces of text or blobs, under a name. */
export function save(pieces, name, type = "text/csv") {
  const url = URL.createObjectURL(new Blob(pieces, { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
