"""Django's CSRF check for a view whose form was received by the upload middleware."""

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.views.decorators.csrf import csrf_exempt, csrf_protect

View = Callable[[HttpRequest], HttpResponse]


def csrf_protect_upload(view: View) -> View:
    """Run Django's CSRF check with the token in a field of the form.

    Django looks for the token in request.POST, which is empty here: the body is the descriptor (JSON) now,
    and the form's fields are in it. Django also takes the token from a header, so it is handed over there, and
    then Django's own and whole check is made (cookie, Origin, Referer), as for any other form.

    To exempt the view and rely on the identifier would not do. An identifier proves that this site made it, but
    not for whom: another site could fetch one for itself and make a visitor's browser send a form with it.
    """
    protected = csrf_protect(view)

    @csrf_exempt  # for CsrfViewMiddleware, which looks before the token can be handed over
    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        # The bucket is there only if the middleware put it there. Without it, the JSON was written by the client.
        bucket = request.META.get("fileupload.bucket")
        if bucket is None:
            return HttpResponseBadRequest("Send the file with the form.")
        for token in bucket.get_status().fields.get("csrfmiddlewaretoken", ())[:1]:
            request.META[settings.CSRF_HEADER_NAME] = token
        response: HttpResponse = protected(request)
        if response.status_code == 403:
            bucket.clear_upload()  # what was refused is not to lie in the pool until it expires
        return response

    return checked
