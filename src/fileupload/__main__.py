"""``python -m fileupload``: the command line."""

from fileupload.cli import main

raise SystemExit(main())
