// Plays the terminals of a recording where they stand. Without it they are downloads.
"use strict";

(() => {
  const play = (button) => {
    const screen = document.createElement("div");
    button.replaceWith(screen);
    AsciinemaPlayer.create(button.dataset.play, screen, { autoPlay: true, controls: true, idleTimeLimit: 2, terminalFontFamily: "ui-monospace, monospace" });
  };
  const buttons = document.querySelectorAll("button[data-play]");
  for (const button of buttons) {
    button.hidden = false;
    button.addEventListener("click", () => play(button), { once: true });
  }
})();
