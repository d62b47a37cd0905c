from django.apps import AppConfig


class GalleryConfig(AppConfig):
    name = "example_site.gallery"
    verbose_name = "Gallery"

    def ready(self) -> None:
        from example_site.gallery import receivers  # noqa: F401  it connects them
