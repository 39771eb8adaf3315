/* Announcements for screen readers, gathered so that one does not interrupt another. */

const QUIET_TIME = 900;  // milliseconds in which announcements are gathered into one
const AT_MOST = 4;       // the newest ones are announced

const pending = [];
let speaker = null;

export function announce(text) {
  pending.push(text);
  speaker ??= setTimeout(() => {
    speaker = null;
    document.getElementById('announcer').textContent = pending.splice(0).slice(-AT_MOST).join(' ');
  }, QUIET_TIME);
}
