/** Numbers and lists as a person reads them. Knows no element of the page. */

const NAMES = 5; // classes that are listed by name

export const counted = (count, noun, plural = `${noun}s`) => `${count.toLocaleString("en")} ${count === 1 ? noun : plural}`;
export const percent = (share) => (share == null ? "–" : share.toLocaleString("en", { style: "percent" }));
export const sized = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
export const lasted = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** A probability never reads as certain unless it is. */
export const likelihood = (share) =>
  share > 0.999 && share < 1 ? "> 99.9%" : share.toLocaleString("en", { style: "percent", minimumFractionDigits: 1 });

/** The first few names, and how many more there are. */
export function listed(names) {
  const more = names.length > NAMES ? [`${names.length - NAMES} more`] : [];
  return new Intl.ListFormat("en").format([...names.slice(0, NAMES), ...more]);
}
