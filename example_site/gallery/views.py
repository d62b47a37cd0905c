"""The page, what it sends, and what it is told."""

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import aget_object_or_404, get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from example_site.gallery import files, intake, live, progress
from example_site.gallery.models import Kind, Rendition, Upload
from example_site.gallery.partisan_tasks import TakeIn


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Show the newest uploads, and a form for more."""
    context = {
        "uploads": progress.newest_uploads(),
        "states": progress.STATES,
        "max_megabytes": intake.MAX_MEGABYTES,
        "max_files": intake.MAX_FILES,
    }
    return render(request, "gallery/index.html", context)


@require_POST
async def upload(request: HttpRequest, upload_id: int | None = None) -> HttpResponse:
    """Keep the files that came, and leave the work to tasks: the answer does not wait for them.

    :param upload_id: the upload that they are part of; a new one, if there is none.
    """
    if upload_id is None:
        name = request.POST.get("name", "").replace("\0", "")[:255]
        to = await Upload.objects.acreate(name=name)
    else:
        to = await aget_object_or_404(Upload, pk=upload_id)
    refused = []
    for file in request.FILES.getlist("pictures"):
        name = file.name or "unnamed"
        if reason := intake.refusal(name, file.size or 0, await to.pictures.acount()):
            refused.append(reason)
            continue
        picture = await sync_to_async(intake.store)(to, name, file.read())
        await TakeIn(picture).adelay()
    if request.accepts("text/html"):  # a form, where no script runs
        for reason in refused:
            messages.error(request, reason)
        return HttpResponseRedirect(reverse("index"))
    more = reverse("more", args=[to.pk])
    return JsonResponse({"upload": to.pk, "more": more, "refused": refused}, status=202)


@require_GET
async def events(request: HttpRequest) -> StreamingHttpResponse:
    """Tell a page what changes, for as long as it is open."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(live.changes(), content_type="text/event-stream", headers=headers)


@require_GET
def rendition(request: HttpRequest, picture_id: int, kind: str) -> HttpResponse:
    """Return the content of a rendition; the picture as it came is shown to nobody."""
    found = get_object_or_404(
        Rendition.objects.select_related("picture"), picture=picture_id, kind=kind
    )
    content = files.rendition(found.picture, Kind(kind)).read_bytes()
    headers = {"Cache-Control": "max-age=3600"}
    return HttpResponse(content, content_type="image/jpeg", headers=headers)
