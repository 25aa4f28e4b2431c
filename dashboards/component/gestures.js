// Pointer, touch, wheel and keys on a map, as moves of the view, marks and areas. The map never traps who passes over it: the wheel
// zooms with Control, or after a click into the map and until the pointer leaves it; one finger scrolls the page, two move the map.

const CLICK = 4; // CSS pixels that a pointer may move between press and release

/**
 * `act` has zoom(factor, place) -> whether anything changed, pan(dx, dy) in CSS pixels, hover(place or null), pick(place),
 * line(places or null), area(places, how), how(event) -> "new" | "add" | "subtract" | null for no area, key(event) -> whether used.
 * `place(event)` is where on the map something with clientX and clientY is.
 */
function gestures(stage, on, place, act) {
  let line = null, how = null, drag = null, used = false, fingers = null;

  on(stage, "pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    used = event.pointerType === "mouse";
    how = act.how(event);
    if (how) {
      event.preventDefault(); // Alt and a click would go to the browser's menu
      stage.focus({ preventScroll: true });
      line = [place(event)];
    } else drag = { x: event.clientX, y: event.clientY, moved: false };
    if (how || event.pointerType !== "touch") stage.setPointerCapture(event.pointerId);
  });
  on(stage, "pointermove", (event) => {
    if (line) {
      line.push(place(event));
      act.line(line);
    } else if (drag) {
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (!drag.moved && Math.hypot(dx, dy) < CLICK) return;
      drag.moved = true;
      if (event.pointerType === "touch") return; // the page scrolls
      act.pan(dx, dy);
      [drag.x, drag.y] = [event.clientX, event.clientY];
    } else if (event.pointerType !== "touch") act.hover(place(event));
  });
  on(stage, "pointerup", (event) => {
    if (line) {
      const drawn = line;
      line = null;
      act.line(null);
      if (drawn.length > 3) act.area(drawn, how);
    } else if (drag && !drag.moved && !fingers) act.pick(place(event));
    drag = null;
  });
  on(stage, "pointercancel", () => {
    line = drag = null;
    act.line(null);
  });
  on(stage, "pointerleave", (event) => {
    if (line || drag) return;
    used = false;
    if (event.pointerType !== "touch") act.hover(null);
  });

  on(stage, "wheel", (event) => {
    const asked = event.ctrlKey || event.metaKey;
    if (!asked && !used) return;
    const changed = act.zoom(Math.exp(-Math.max(-100, Math.min(100, event.deltaY)) * 0.003), place(event));
    if (asked || changed) event.preventDefault(); // at the last step of the zoom the page scrolls
  }, { passive: false });

  const two = ([one, other]) => ({
    clientX: (one.clientX + other.clientX) / 2,
    clientY: (one.clientY + other.clientY) / 2,
    apart: Math.max(Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY), 1),
  });
  on(stage, "touchstart", (event) => {
    if (event.touches.length !== 2 || line) return;
    event.preventDefault();
    fingers = two(event.touches);
  }, { passive: false });
  on(stage, "touchmove", (event) => {
    if (!fingers || event.touches.length !== 2) return;
    if (event.cancelable) event.preventDefault();
    const now = two(event.touches);
    act.pan(now.clientX - fingers.clientX, now.clientY - fingers.clientY);
    act.zoom(now.apart / fingers.apart, place(now));
    fingers = now;
  }, { passive: false });
  const lifted = (event) => { if (event.touches.length < 2) setTimeout(() => (fingers = null)); };
  on(stage, "touchend", lifted);
  on(stage, "touchcancel", lifted);

  on(stage, "blur", () => (used = false));
  on(stage, "keydown", (event) => {
    if (event.key === "Escape") used = false;
    if (act.key(event)) event.preventDefault();
  });
}
