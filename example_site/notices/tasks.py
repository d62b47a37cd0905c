"""The one task of the app; whoever wants it sent calls ``tell_managers.enqueue(…)``."""

from typing import TYPE_CHECKING

from django.core.mail import mail_managers

if TYPE_CHECKING:
    from django.tasks import task
else:
    try:
        from django.tasks import task
    except ImportError:  # Django 5.2
        from django_tasks import task


@task
def tell_managers(subject: str, text: str) -> None:
    """Send a mail to those in ``MANAGERS``."""
    mail_managers(subject, text)
