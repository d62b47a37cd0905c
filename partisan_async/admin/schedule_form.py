"""The form in which somebody writes what a schedule calls, and when."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partisan_async import registry, store
from partisan_async.enqueue.corrected import check_arguments
from partisan_async.enqueue.scheduled import MOST_BYTES, Called, made_key
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Schedule
from partisan_async.schedule import Cron, Every
from partisan_async.steering.timetable import checked_stored

NO_ARGUMENTS = '{"args": [], "kwargs": {}}'

TAKEN = _("There is a schedule of this name already.")


class ScheduleForm(forms.Form):
    """What a schedule calls, and when.

    :param processors: the names of those that may be chosen.
    :param row: the one that is changed; ``None``: one is made.
    """

    name = forms.CharField(
        label=_("Name"), strip=False, max_length=254, widget=forms.TextInput(attrs={"size": 40})
    )
    processor = forms.ChoiceField(label=_("Processor"))
    arguments = forms.CharField(
        label=_("Arguments, as JSON"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "class": "partisan-json", "spellcheck": "false"}),
    )
    subject = forms.CharField(
        label=_("Subject"),
        required=False,
        strip=False,
        max_length=255,
        help_text=_("Whose its tasks are, such as customer:42. Empty: as the processor says."),
        widget=forms.TextInput(attrs={"size": 40}),
    )
    cron = forms.CharField(
        label=_("Cron expression"),
        required=False,
        help_text=_("Minute, hour, day of month, month and day of week, such as 0 7 * * mon-fri."),
        widget=forms.TextInput(attrs={"size": 40, "spellcheck": "false"}),
    )
    time_zone = forms.CharField(
        label=_("Time zone"), required=False, widget=forms.TextInput(attrs={"size": 40})
    )
    seconds = forms.FloatField(
        label=_("Or every so many seconds"),
        required=False,
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    catch_up = forms.BooleanField(
        label=_("Catch up with each tick that was missed"), required=False
    )
    skip_while_running = forms.BooleanField(
        label=_("Enqueue nothing while an identical task runs"), required=False
    )

    def __init__(self, *args: Any, processors: list[str], row: Schedule | None, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.row = row
        if row is not None:
            del self.fields["name"], self.fields["processor"]
        else:
            choices = [("", "---------"), *((name, name) for name in processors)]
            self.fields["processor"].choices = choices  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        """Return the name of one that is not there yet."""
        name = str(self.cleaned_data["name"])
        try:
            key = made_key(name)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None
        if Schedule.objects.using(store.database()).filter(pk=key).exists():
            raise forms.ValidationError(TAKEN)
        return name

    def clean(self) -> dict[str, Any]:
        """Check the call as ``delay()`` does, and make the schedule."""
        cleaned = super().clean() or self.cleaned_data
        if "seconds" in cleaned:
            try:
                cleaned["known"] = self._known(cleaned)
            except ValueError as error:
                field = "cron" if cleaned["seconds"] is None else "seconds"
                about = str(error)
                field = "time_zone" if about.startswith("time_zone=") else field
                self.add_error("catch_up" if about.startswith("catch_up=") else field, about)
        processor = self.processor_class(cleaned)
        if processor is not None:
            try:
                encoded = self._encoded(processor, cleaned.get("arguments", ""))
                # Its task_subject(), or UNIQUE, may refuse it.
                cleaned["called"] = self._called(processor, encoded, cleaned.get("subject"))
            except (TypeError, ValueError) as error:
                self.add_error("arguments", str(error))
        return cleaned

    def processor_class(self, cleaned: dict[str, Any]) -> Any:
        """Return whose call it is; ``None``: none was chosen, or this process knows it not."""
        name = cleaned.get("processor") if self.row is None else self.row.processor_name
        try:
            return registry.get(name) if name else None
        except ProcessorClassNotFound:
            told = _("The processor %(name)s is in no code that this site runs.")
            raise forms.ValidationError(told, params={"name": name}) from None

    def _known(self, cleaned: dict[str, Any]) -> Cron | Every:
        flags = {name: cleaned[name] for name in ("catch_up", "skip_while_running")}
        cron, seconds = cleaned.get("cron", ""), cleaned["seconds"]
        if bool(cron) == (seconds is not None):
            raise ValueError(gettext("Write a cron expression, or a number of seconds."))
        if cron:
            return Cron(cron, time_zone=cleaned.get("time_zone") or None, **flags)
        return Every(seconds=seconds, **flags)

    def _called(self, processor: Any, encoded: str, subject: str | None) -> Called:
        row, said = self.row, subject or None
        if row is None or said != row.subject or encoded == row.arguments:
            return checked_stored(processor, encoded, said)
        # Nobody has said it: with other arguments it may be somebody else's.
        return checked_stored(processor, encoded, kept=row.subject)

    def _encoded(self, processor: Any, text: str) -> str:
        if not text.strip():
            if self.row is not None and self.row.arguments:
                return self.row.arguments
            text = NO_ARGUMENTS
        encoded = check_arguments(processor, text, processor.QUEUE_NAME)
        if len(encoded) > MOST_BYTES:
            told = gettext("They are %(size)s bytes of JSON, and may be %(most)s.")
            raise ValueError(told % {"size": f"{len(encoded):,}", "most": f"{MOST_BYTES:,}"})
        return encoded
