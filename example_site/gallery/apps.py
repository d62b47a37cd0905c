from django.apps import AppConfig


class GalleryConfig(AppConfig):
    name = "example_site.gallery"
    verbose_name = "Gallery"
