"""The pictures in the plain admin; the tasks are there by the package itself."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from example_site.gallery.models import Picture, Rendition


class RenditionInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Rendition
    extra = 0


@admin.register(Picture)
class PictureAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "width", "height", "colours", "published_at", "announced_at")
    ordering = ("-pk",)
    inlines = [RenditionInline]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # a row alone is no picture: its file comes by the page

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # what is known about it was read from it
