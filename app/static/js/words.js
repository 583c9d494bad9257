// Numbers and names as people read them.

const counts = new Intl.NumberFormat("en");

/** 12345 -> "12,345". */
export const count = (number) => counts.format(number);

/** 2, "photo" -> "2 photos". */
export const many = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** A similarity for the eye; a file gets all digits. */
export const score = (value) => value.toFixed(4);

/** Bytes -> "3.2 MB". */
export function bytes(number) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; number >= 1000 && unit < units.length - 1; unit++) number /= 1000;
  return `${unit && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

/** Seconds -> "40 s", "3 min", "2 h 5 min". */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const order = new Intl.Collator("en", { numeric: true });

/** Puts names in the order of a file manager: photo2 before photo10. */
export const byName = (a, b) => order.compare(a, b) || (a < b ? -1 : Number(a > b));
