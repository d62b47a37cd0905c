"""What the receivers of Django's own reloader watch beside code: templates and translations.

Django documents none of it. What is missing, or not as it was, is done without, and logged once:
then code alone is watched.
"""

from __future__ import annotations

from django.utils import translation

from partisan_async import logs


def asked_for() -> tuple[set[str], dict[str, list[str]]]:
    """Return the files that receivers of ``autoreload_started`` ask for, and patterns by folder.

    Django's own receivers ask for templates and translations; a project may have others.
    """
    try:
        # Imported here: it may be gone.
        import django.template.autoreload  # noqa: F401  it connects the receiver
        from django.utils import autoreload

        translation.get_language()  # connects the receiver
        reloader = autoreload.StatReloader()
        autoreload.autoreload_started.send_robust(sender=reloader)
        files = {str(file) for file in reloader.extra_files}
        globs = reloader.directory_globs.items()
        return files, {str(folder): sorted(patterns) for folder, patterns in globs}
    except Exception as error:  # noqa: BLE001  whatever became of it
        logs.reload.djangos_reloader_gone("templates and translations are not watched", error)
        return set(), {}
