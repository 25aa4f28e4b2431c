// The colours of the page around a map. The page is light or dark as the browser prefers, or as its user chose in Streamlit's menu;
// a saved or printed map is always dark on white.

const LIGHT = { dark: false, paper: "#ffffff", ink: "#000000", halo: "#ffffffd0", faint: [224, 234, 244], strong: [8, 48, 107] };
const DARK = { dark: true, paper: "#0e1117", ink: "#ffffff", halo: "#0e1117d0", faint: [24, 48, 74], strong: [214, 234, 255] };

/** The theme of the page: dark where the background behind the map is. */
function themeOf(root) {
  const [red, green, blue] = getComputedStyle(root).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [255, 255, 255];
  return 0.3 * red + 0.6 * green + 0.1 * blue < 128 ? DARK : LIGHT;
}

/** Calls `run` when the page changes its colours: map.css lets the background of the map pass to the new one in a moment. */
function watchTheme(root, on, run) {
  on(root, "transitionend", (event) => event.target === root && event.propertyName === "background-color" && run());
}

/** Groups as a layer draws them: {colour, symbol, hidden}. */
function looksOf(groups, hidden, theme) {
  return groups.map(({ symbol, colour, dark }, i) => ({ symbol, colour: theme.dark ? dark : colour, hidden: hidden.has(i) }));
}
