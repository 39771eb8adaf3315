/* Announcements for screen readers: few, and gathered, so that nobody is talked over. */

const QUIET_TIME = 900;  // milliseconds in which announcements are gathered into one
const AT_MOST = 4;       // of several, the last ones say how it stands

const pending = [];
let speaker = null;

export function announce(text) {
  pending.push(text);
  speaker ??= setTimeout(() => {
    speaker = null;
    document.getElementById('announcer').textContent = pending.splice(0).slice(-AT_MOST).join(' ');
  }, QUIET_TIME);
}
