"""The log of ``fileupload serve`` on standard error: lines of text, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from fileupload.status import timestamp

FORMATS = ("text", "json")

# granian's own messages go where all others go, in the same format.
GRANIAN_LOGGING: dict[str, Any] = {
    "formatters": {},
    "handlers": {},
    "loggers": {name: {"handlers": [], "propagate": True} for name in ("_granian", "granian.access")},
}


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: timestamp, level, process, message, and the fields of an event."""

    def format(self, record: logging.LogRecord) -> str:
        event = getattr(record, "event", None) or {}
        data: dict[str, Any] = {
            "timestamp": timestamp(record.created),
            "level": record.levelname.lower(),
            "process": record.process,
            "message": record.getMessage(),
            **event,
        }
        if record.exc_info:
            data["exception"] = self.formatException(record.exc_info)
        return json.dumps(data, default=str)


def configure_logging(log_format: str) -> None:
    """Write the log to standard error in *log_format*; the id of the process tells the workers apart."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s [%(process)d] %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("fileupload").setLevel(logging.INFO)
