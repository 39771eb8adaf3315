"""The form of a letter."""

import secrets
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError

LIMITS = (
    f"At most {settings.ATTACHMENTS_MAX_BUNDLE_FILES} files, of {settings.ATTACHMENTS_MAX_FILE_SIZE} MB each "
    f"and {settings.ATTACHMENTS_MAX_BUNDLE_SIZE} MB together."
)
PAST_LIMITS = "These are too many, or too large. Choose fewer, or smaller ones."


class FilesInput(forms.FileInput):
    """An input for any number of files."""

    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Any number of files, as a list."""

    widget = FilesInput

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        files = [super(FilesField, self).clean(file, initial) for file in data or ()]
        if any(file.size > settings.ATTACHMENTS_MAX_FILE_SIZE << 20 for file in files):
            raise ValidationError(PAST_LIMITS)
        return files


class LetterForm(forms.Form):
    """Form of a letter; ``bundle`` names its attachments, so that each opened page has its own."""

    bundle = forms.SlugField(
        max_length=64,
        initial=secrets.token_urlsafe,
        # Otherwise browsers restore the value of the previous page when they reload.
        widget=forms.HiddenInput({"autocomplete": "off"}),
    )
    subject = forms.CharField(max_length=200)
    text = forms.CharField(max_length=100_000, widget=forms.Textarea)
    # With the script, the files of this input are sent to the bundle, and the input is empty.
    files = FilesField(required=False, allow_empty_file=True, help_text=LIMITS)

    def clean_subject(self) -> str:
        """Return the subject in one line, as a mail header requires."""
        return " ".join(self.cleaned_data["subject"].split())
