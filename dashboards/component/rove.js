// One stop of the Tab key for many buttons: arrow keys, Home and End move among them. A legend of 22 chapters has 45 buttons.

/** Makes one button of `bar` reachable by Tab: the first, then the one that had the focus last. */
function rove(bar, on) {
  const buttons = () => [...bar.querySelectorAll("button")];
  const stop = (chosen) => buttons().forEach((button) => (button.tabIndex = button === chosen ? 0 : -1));
  on(bar, "focusin", (event) => stop(event.target));
  on(bar, "keydown", (event) => {
    const open = buttons().filter((button) => !button.hidden && !button.disabled);
    const at = open.indexOf(event.target);
    const step = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: open.length - 1 }[event.key];
    if (step === undefined || at < 0) return;
    event.preventDefault();
    open[(step + open.length) % open.length].focus();
  });
  stop(buttons()[0]);
}
