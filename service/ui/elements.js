/** Elements of the page: found, copied from templates, and taken off. Knows neither heads nor the service. */

export const $ = (id) => document.getElementById(id);
export const announce = (text) => ($("announce").textContent = text);

/** A copy of a template's element, with texts set by selector. */
export function stamp(template, texts = {}) {
  const element = $(template).content.firstElementChild.cloneNode(true);
  for (const [selector, text] of Object.entries(texts)) element.querySelector(selector).textContent = text;
  return element;
}

export function setImage(image, file) {
  image.src = URL.createObjectURL(file);
  image.alt = image.title = file.name;
}

/** Take elements off the page for good, and let go of their images. */
export function discard(elements) {
  for (const element of elements) {
    for (const image of element.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    element.remove();
  }
}
