from django.apps import AppConfig


class PartisanAsyncConfig(AppConfig):
    name = "partisan_async"
    label = "partisan_async"
    verbose_name = "Background tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from partisan_async import checks  # noqa: F401  registers the system checks
