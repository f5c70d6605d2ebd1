/** The API key of this tab, if the server asks for one. Knows neither the service nor the page but its dialog. */
import { $ } from "./elements.js";

const PLACE = "headstart-key"; // in sessionStorage: gone with the tab, not sent by the browser by itself
let asking = null; // one question at a time, however many calls were refused

export const key = () => sessionStorage.getItem(PLACE);

/** What the server was given for a call that it refused is not given again by itself. */
export function forgetKey() {
  sessionStorage.removeItem(PLACE);
  $("forget-key").hidden = true;
}

function keep(text) {
  sessionStorage.setItem(PLACE, text);
  $("forget-key").hidden = false;
}

/** Ask for a key; whether one was given. `refused` is the key that did not do, `message` why. */
export async function askForKey(refused, message) {
  if (key() !== refused) return true; // Another call has asked meanwhile.
  asking ??= ask(message).finally(() => (asking = null));
  return asking;
}

async function ask(message) {
  const dialog = $("key-dialog");
  $("key-message").textContent = message;
  $("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const text = $("key").value.trim();
  $("key").value = "";
  if (dialog.returnValue !== "use" || !text) return false;
  keep(text);
  return true;
}

$("forget-key").hidden = !key();
