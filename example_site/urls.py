"""The site's addresses."""

from django.contrib import admin
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from example_site.gallery import views

urlpatterns = [
    path("", views.index),
    # Whoever uploads is not logged in, so there is no session for another site to abuse.
    path("pictures/", csrf_exempt(views.Pictures.as_view())),
    path("admin/", admin.site.urls),
]
