"""The pages of the project."""

import logging
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.urls import get_script_prefix
from django.utils.encoding import iri_to_uri
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from fileupload import Bundle

from .forms import PAST_LIMITS, LetterForm
from .mail import send_letter

log = logging.getLogger("letters")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def letter(request: HttpRequest) -> HttpResponse:
    """Show the form; send the letter with its attachments."""
    form = LetterForm(request.POST, request.FILES) if request.method == "POST" else LetterForm()
    if "bundle" in form.errors:
        return HttpResponseBadRequest("The letter does not say where its attachments are. Open its page anew.")
    # The session begins with the page, before several files are attached at the same time.
    bundle = request.META["fileupload.attachments"].bundle(form["bundle"].value())
    if getattr(request, "passes_limits", False) and "files" not in form.errors:
        form.add_error("files", PAST_LIMITS)
    if form.is_valid() and _send(form, bundle):
        bundle.clear()
        return redirect("thanks")
    if request.FILES and "files" not in form.errors:
        form.add_error("files", "Choose them again: what came with the form did not stay here.")
    return render(request, "letters/letter.html", {"form": form, "attachments_url": _address(bundle)})


@require_safe
def thanks(request: HttpRequest) -> HttpResponse:
    """Show that the letter was sent."""
    return render(request, "letters/thanks.html")


def _send(form: LetterForm, bundle: Bundle) -> bool:
    """Send the letter; a failure is an error of the form."""
    try:
        send_letter(form.cleaned_data["subject"], form.cleaned_data["text"], _files(form, bundle))
    except OSError:
        log.exception("a letter could not be sent")
        form.add_error(None, "The letter could not be sent. It is still here: try again later.")
        return False
    return True


def _files(form: LetterForm, bundle: Bundle) -> Iterator[tuple[str, str, bytes]]:
    """Yield the files of the bundle and, without scripts, those of the form."""
    for attachment in bundle:
        with attachment.open() as file:
            yield attachment.name, attachment.mimetype, file.read()
    for upload in form.cleaned_data["files"]:
        yield upload.name, upload.content_type, upload.read()


def _address(bundle: Bundle) -> str:
    return iri_to_uri(f"{get_script_prefix()}{settings.ATTACHMENTS_PATH[1:]}/{bundle.name}/")
