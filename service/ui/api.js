/** Talks to the REST API of this server. Knows no element of the page. */
import { askForKey, key } from "./key.js";

/** An answer other than 2xx in the server's own words; `items` are the inputs that it is about. */
export class ApiError extends Error {
  constructor({ message, param, items, status }) {
    super(message);
    this.status = status;
    const place = /^inputs\[(\d+)\]/.exec(param ?? "");
    this.items = items ?? (place ? [{ index: Number(place[1]), message }] : []);
  }
}

export const headPath = (name) => `/v1/heads/${encodeURIComponent(name)}`;

export const exportPath = (name, format) => `${headPath(name)}/export?format=${format}`;

/** Send a request, give the decoded answer. `onProgress` gets the share of the body that was sent, 0 to 1. */
export async function call(method, path, { body = null, onProgress = () => {}, responseType = "text" } = {}) {
  for (;;) {
    const given = key();
    try {
      return await send(method, path, { body, onProgress, responseType, given });
    } catch (error) {
      if (error.status !== 401 || !(await askForKey(given, error.message))) throw error;
    }
  }
}

function send(method, path, { body, onProgress, responseType, given }) {
  // XMLHttpRequest, because fetch does not tell how much of an upload was sent.
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    if (responseType === "blob") request.responseType = "blob";
    // Of another form a header could not be made of it, and the server would refuse it anyway.
    if (given) request.setRequestHeader("Authorization", `Bearer ${given.replace(/[^\x21-\x7e]/g, "?")}`);
    request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    request.onerror = () => reject(new ApiError({ message: "The server cannot be reached." }));
    request.onload = async () => {
      const { status, response } = request;
      if (status < 300 && responseType === "blob") return resolve(response);
      const answer = decoded(responseType === "blob" ? await response.text() : response);
      if (status < 300) return resolve(answer);
      return reject(new ApiError({ message: `The server answered ${status}.`, ...answer?.error, status }));
    };
    request.send(body);
  });
}

function decoded(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // 204 has no body, and a proxy in between may answer with a page.
  }
}

/** All rows of a list that comes in pages. */
export async function everyRow(path, key) {
  const rows = [];
  for (let cursor = ""; cursor !== null; ) {
    const page = await call("GET", `${path}?limit=1000${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
    rows.push(...page[key]);
    cursor = page.next;
  }
  return rows;
}

/** The command that predicts these files from a terminal. */
export function predictCommand(head, fileNames) {
  const inputs = fileNames.map((name) => `  -F ${shellQuoted(`image=@${curlQuoted(name)}`)}`);
  const header = key() ? ['  -H "Authorization: Bearer $HEADSTART_KEY"'] : []; // never the key itself
  return [`curl ${shellQuoted(location.origin + headPath(head) + "/predict")}`, ...header, ...inputs].join(" \\\n");
}

// curl takes `,` and `;` in a file name for its own, unless the name is in double quotes.
const curlQuoted = (name) => (/[,;"\\]/.test(name) ? `"${name.replace(/["\\]/g, "\\$&")}"` : name);

const shellQuoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
