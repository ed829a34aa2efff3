// Measures every frame of a page that holds reports: what is cut, and which text is too faint (see test_chromium.py).
const channels = text => text.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
const paper = (view, element) => {
  for (let e = element; e; e = e.parentElement) {
    const found = channels(view.getComputedStyle(e).backgroundColor);
    if (found.length < 4 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const shown = (view, e) => e.getClientRects().length > 0;
function problems(frame) {
  const view = frame.contentWindow, page = frame.contentDocument, root = page.documentElement, found = [];
  page.querySelectorAll("details").forEach(e => { e.open = true; });
  if (!page.querySelector("h1") || !page.querySelector("table")) found.push("no page: " + root.textContent.slice(0, 40));
  if (root.scrollWidth > root.clientWidth) found.push(`page ${root.scrollWidth} wide in ${root.clientWidth}`);
  for (const e of page.querySelectorAll(".wide, table"))
    if (shown(view, e) && e.scrollWidth > e.clientWidth + 1) found.push(`${e.tagName} cut: ${e.textContent.trim().slice(0, 40)}`);
  for (const e of page.querySelectorAll("body *:not(svg *)")) {
    if (!shown(view, e) || e.closest("pre")) continue;
    if (e.getBoundingClientRect().right > root.clientWidth + 1) found.push(`${e.tagName} beyond the edge: ${e.textContent.slice(0, 40)}`);
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [one, two] = [channels(view.getComputedStyle(e).color), paper(view, e)].map(light).sort((a, b) => b - a);
    if ((one + 0.05) / (two + 0.05) < 4.5) found.push(`contrast ${((one + 0.05) / (two + 0.05)).toFixed(2)}: ${e.textContent.trim().slice(0, 40)}`);
  }
  return found.slice(0, 5);
}
addEventListener("load", () => {
  const told = {};
  document.querySelectorAll("iframe.measured").forEach(f => { told[f.title] = problems(f); });
  document.getElementById("told").textContent = JSON.stringify(told);
});
