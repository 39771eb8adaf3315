"""``python -m fileupload``: the command line."""

from fileupload.cli.main import main

raise SystemExit(main())
