import asyncio

from django.contrib import admin
from django.http import HttpRequest, JsonResponse
from django.urls import path

from tests.testapp.partisan_tasks import Write


async def enqueue(request: HttpRequest) -> JsonResponse:
    """Enqueue a task, or several at the same time."""
    times = int(request.GET.get("times", 1))
    calls = (Write(request.GET["text"]).adelay() for _ in range(times))
    return JsonResponse([task.pk for task in await asyncio.gather(*calls)], safe=False)


urlpatterns = [path("admin/", admin.site.urls), path("enqueue/", enqueue)]
