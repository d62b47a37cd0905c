from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PartisanAsyncConfig(AppConfig):
    name = "partisan_async"
    label = "partisan_async"
    verbose_name = _("Background tasks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from partisan_async.text import labels

        labels.attach()
