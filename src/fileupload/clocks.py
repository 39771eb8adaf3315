"""The rule for times that another host has written, or an earlier clock of this host.

Clocks of hosts differ by seconds, and a clock may have been wrong for a while, by hours (a time zone) or by decades (a
board without a battery). What was written then stays in statuses, modification times, signatures and leases. So:

- *A time ahead of this host's clock counts as now*, wherever an age is computed: nothing has a negative age, and
  nothing is refused because its time is still to come.
- *It counts only as far ahead as it would count behind.* A mark that counts for a duration (a lease, a refusal, the age
  of an identifier) counts for that duration on both sides of its time, and for CLOCK_TOLERANCE ahead at least. So it
  counts for twice its duration at most, and never for ever. A session cookie is the exception: it counts however far
  ahead it is, but is signed again.
- *A time further ahead than CLOCK_TOLERANCE is no evidence of the age of an upload.* The time by the clock of the file
  system or of the object store counts instead. If that is as far ahead, because one wrong clock has written both, the
  age counts from the moment at which a purge finds this out.

Durations within a process are measured by ``time.monotonic``, which no change of the clock affects.
"""

from __future__ import annotations

import time

CLOCK_TOLERANCE = 900.0  # seconds; Amazon S3 allows the clocks of its clients to differ by as much


def age_of(moment: float) -> float:
    """Return the seconds since *moment* (in seconds since the epoch); 0.0 if it is ahead of this host's clock."""
    return max(0.0, time.time() - moment)


def is_far_ahead(moment: float) -> bool:
    """Return whether *moment* is so far ahead of this host's clock that one of the clocks must be wrong."""
    return moment > time.time() + CLOCK_TOLERANCE


def expiry_of(moment: float, duration: float, tolerance: float = CLOCK_TOLERANCE) -> float:
    """Return when a mark with the time *moment* ceases to count, in seconds since the epoch.

    :param duration: seconds for which it counts.
    :param tolerance: seconds for which it counts ahead of its time at least.
    :return: 0.0, which is always over, if *moment* is too far ahead.
    """
    return moment + duration if moment - time.time() < max(duration, tolerance) else 0.0


def is_recent(moment: float, duration: float, tolerance: float = CLOCK_TOLERANCE) -> bool:
    """Return whether a mark with the time *moment* counts now; parameters as for :func:`expiry_of`."""
    return time.time() < expiry_of(moment, duration, tolerance)
