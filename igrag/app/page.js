// Gradio's examples are buttons without a name: screen readers get the file's.
function nameExamples() {
  for (const button of document.querySelectorAll("button.gallery-item:not([aria-label])")) {
    const image = button.querySelector("img");
    if (image) button.ariaLabel = decodeURIComponent(image.src.split("/").pop());
  }
}
new MutationObserver(nameExamples).observe(document, {childList: true, subtree: true});
