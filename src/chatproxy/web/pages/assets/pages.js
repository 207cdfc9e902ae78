"use strict";
// The pages work without this. With it, a screen reader hears what the last step came to: a live region speaks only
// of what changes in it.
const result = document.querySelector("[data-result]");
if (result) {
  const text = result.textContent;
  result.textContent = "";
  setTimeout(() => { result.textContent = text; }, 150);
}
