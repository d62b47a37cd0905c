"""The site's addresses."""

from django.contrib import admin
from django.urls import path

from example_site.gallery import views

urlpatterns = [
    path("", views.index, name="index"),
    path("events/", views.events, name="events"),
    path("uploads/", views.upload, name="upload"),
    path("uploads/<int:upload_id>/", views.upload, name="more"),
    path("pictures/<int:picture_id>/<slug:kind>.jpg", views.rendition, name="rendition"),
    path("admin/", admin.site.urls),
]
