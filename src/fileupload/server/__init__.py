"""The dedicated upload server, ``fileupload serve``."""
